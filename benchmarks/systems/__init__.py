"""Four systems from the literature, trained by the examples of this repository and by Keras on TensorFlow.

Both sides have the same data, batches in the same order, initial weights, optimizer and number of steps. The examples run
unchanged. Only their functions for training and evaluation are wrapped, so that no code of an example is repeated here.

    python -m benchmarks.systems                  all systems, both sides, about half an hour on two cores
    python -m benchmarks.systems --quick          a few steps of each, to see that everything works
    python -m benchmarks.systems --readme         write README's table from the committed results
"""
