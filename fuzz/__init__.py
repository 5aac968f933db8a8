"""Coverage-guided fuzzing of the readers of untrusted files: `python -m fuzz hdf5`. See fuzz/README.md."""
