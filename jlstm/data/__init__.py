"""Small real data sets as NumPy arrays, and iterators over batches.

Each data set is one function. Downloads and `digits` need `pip install "jlstm[data]"`.
`import jlstm` does not import this package.
"""

from jlstm.data.batches import Batch, Batches, Minibatches, share, take
from jlstm.data.buckets import Bucketed, Buckets
from jlstm.data.corpora import Corpus, ptb, shakespeare
from jlstm.data.dataset import Dataset, Split
from jlstm.data.digits import digits
from jlstm.data.imdb import ReviewDataset, Reviews, imdb, imdb_word_index
from jlstm.data.mnist import mnist
from jlstm.data.ragged import Ragged, pad
from jlstm.data.series import Series, airline, sunspots, temperatures
from jlstm.data.vocabulary import decode, encode, vocabulary, words
from jlstm.data.windows import Window, Windows

__all__ = [
    "Batch",
    "Batches",
    "Bucketed",
    "Buckets",
    "Corpus",
    "Dataset",
    "Minibatches",
    "Ragged",
    "ReviewDataset",
    "Reviews",
    "Series",
    "Split",
    "Window",
    "Windows",
    "airline",
    "decode",
    "digits",
    "encode",
    "imdb",
    "imdb_word_index",
    "mnist",
    "pad",
    "ptb",
    "shakespeare",
    "share",
    "sunspots",
    "take",
    "temperatures",
    "vocabulary",
    "words",
]
