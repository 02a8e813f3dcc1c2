"""Jobs on SLURM: scripts and their submission, what tasks know of their job, preemption and requeue."""
