"""Measurements that are committed: `python -m benchmarks.systems` trains whole systems here and in TensorFlow."""
