"""Two prediction problems, and nothing else."""
