"""What would serve any method: pipeline, stages, artifacts, training, ranks, signals, and what is said to people."""
