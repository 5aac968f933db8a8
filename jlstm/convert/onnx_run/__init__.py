"""Runs whole ONNX models in JAX: their recurrent nodes as layers of jlstm, and ordinary operators around them.

`program` turns a file into steps when it is read, and `graph` runs the steps. Arithmetic on sizes of arrays and on constants
stays in NumPy, so that shapes are known when JAX compiles the rest. Tables of operators are in `elementwise`, `arrays`,
`reductions` and `network`, and `recurrent` runs LSTM, GRU and RNN nodes.

Reference: https://onnx.ai/onnx/operators/
"""
