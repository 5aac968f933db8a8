"""Coverage-guided fuzzing of all that reads files from anywhere: `python -m fuzz hdf5`; see README.md beside this."""
