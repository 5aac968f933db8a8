"""Four systems of the literature, trained by the examples of this repository and by Keras on TensorFlow, side by side.

Both sides have the same data, batches in the same order, initial weights, optimizer and number of steps. The examples are run as
they are and observed where they train and where they measure, so that nothing of theirs is written here a second time.

    python -m benchmarks.systems                  all systems, both sides, about half an hour on two cores
    python -m benchmarks.systems --quick          a few steps of each, to see that everything works
    python -m benchmarks.systems --readme         write README's table from the committed results
"""
