"""ONNX models: their graphs, the tensors in them, and what can be computed of these before a model runs."""
