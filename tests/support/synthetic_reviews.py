"""Random film reviews, which need no download. Positive ones have more of the good words, negative ones more of the bad."""

import sys
from types import ModuleType

import numpy as np
import pytest

from jlstm.data import Ragged, ReviewDataset, Reviews, encode
from scripts import imported

NEUTRAL, GOOD, BAD = ("the", "film", "was", "a", "and", "plot"), ("great", "joy", "superb"), ("dull", "awful", "poor")
INDEX = {word: number for number, word in enumerate((*NEUTRAL, *GOOD, *BAD), 1)}
WORDS = len(INDEX) + 4  # padding, start, unknown, one that nothing has, and the words


def random_reviews(count: int, seed: int) -> Reviews:
    """Return reviews of 4 to 20 words."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count, dtype=np.int32)
    texts = [" ".join(draw.choice([*NEUTRAL, *((BAD, GOOD)[label] * 2)], draw.integers(4, 21))) for label in labels]
    return Reviews(Ragged.of([encode(text, INDEX) for text in texts]), labels)


def with_random_reviews(monkeypatch: pytest.MonkeyPatch, script: str) -> ModuleType:
    """Import an example, which gets these reviews instead of IMDB's."""
    module = imported(monkeypatch, script)
    dataset = ReviewDataset(random_reviews(400, seed=0), random_reviews(100, seed=1))
    monkeypatch.setattr(sys.modules["common.reviews"], "imdb", lambda *_, **__: dataset)
    monkeypatch.setattr(sys.modules["common.reviews"], "imdb_word_index", lambda *_: INDEX)
    return module
