"""Log the pipeline's stages in MLflow. No result depends on it."""
