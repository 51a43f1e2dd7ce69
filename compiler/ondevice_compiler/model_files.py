"""Kinds of model files, for those who have no TVM to load them with."""

MODEL_SUFFIXES = (".onnx", ".pt2", ".tflite", ".pkl")
