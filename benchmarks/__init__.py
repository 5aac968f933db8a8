"""Benchmarks whose results are committed in `benchmarks/results`.

python -m benchmarks            speed of this library and of other frameworks, see `benchmarks.speed`
python -m benchmarks.systems    whole systems, trained by this library and by Keras on TensorFlow
python -m benchmarks.figures    the figures that the examples reach
"""
