"""Real data sets, small enough for examples and tests, and batches of them: NumPy arrays, no framework.

Each set is one file with one function; `import jlstm` does not import this package.
"""

from jlstm.data.batches import Batch, Batches, Minibatches
from jlstm.data.dataset import Dataset, Split
from jlstm.data.digits import digits
from jlstm.data.mnist import mnist

__all__ = ["Batch", "Batches", "Dataset", "Minibatches", "Split", "digits", "mnist"]
