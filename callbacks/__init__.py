"""Lightning callbacks: codebook health, exact resume, rollout diagnostics, throughput."""
