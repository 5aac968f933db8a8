"""Real data sets, small enough for examples and tests: NumPy arrays, no framework.

Each set is one file with one function that returns a `Dataset`; `import jlstm` does not import this package.
"""

from jlstm.data.batches import batches
from jlstm.data.dataset import Dataset, Split
from jlstm.data.digits import digits
from jlstm.data.mnist import mnist

__all__ = ["Dataset", "Split", "batches", "digits", "mnist"]
