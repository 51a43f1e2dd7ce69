"""Where runs are recorded besides their folder: TensorBoard, MLflow."""
