"""Reading and writing of ONNX models: graphs, tensors, and constant folding."""
