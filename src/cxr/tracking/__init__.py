"""MLflow beside the pipeline: no result depends on it."""
