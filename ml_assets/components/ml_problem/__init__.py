"""One prediction problem as Dagster definitions: assets, checks, a job, a scaffolder."""
