"""Log the pipeline's stages in MLflow. No result depends on it."""

import os

# mlflow reads these when it is imported. No usage data leaves the machine. A server that is down
# costs seconds, not the minutes of MLflow's default of seven retries.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# MLflow would print the server's URL with its credentials.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of files of kilobytes
