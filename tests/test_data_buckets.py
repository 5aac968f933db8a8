"""Batches of similar length: every sequence once a pass, at its bucket's width, resumed anywhere, in parts of one whole."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Bucketed, Buckets, Ragged, pad


@st.composite
def problems(draw):
    """Sequences whose first value tells them apart, or that are empty; labels; options; the number of a pass."""
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=30))
    tokens = Ragged.of([[100 + index] * length for index, length in enumerate(lengths)])
    widths = sorted(draw(st.sets(st.integers(1, 14), min_size=1, max_size=4)))
    sides = {name: draw(st.sampled_from(["pre", "post"])) for name in ("padding", "truncating")}
    options = {"size": draw(st.integers(1, 5)), "widths": widths, "seed": draw(st.none() | st.integers(0, 3))} | sides
    return tokens, np.arange(len(lengths)), options, draw(st.integers(0, 3))


def assert_equal(got, expected) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@given(problems())
def test_every_sequence_counts_once_a_pass_at_its_buckets_width(problem):
    """A batch has the smallest width that its longest sequence fits into, or the last one; rows are what `pad` makes of them."""
    tokens, labels, options, number = problem
    buckets, sides = Buckets(tokens, labels, **options), {name: options[name] for name in ("padding", "truncating")}
    batches = list(buckets.epoch(number))
    assert len(batches) == len(buckets)
    counted = np.concatenate([batch.examples.labels[batch.weights == 1] for batch in batches])
    assert sorted(counted) == labels.tolist()
    for batch in batches:
        rows = tokens.take(batch.examples.labels)
        kept = np.minimum(rows.lengths, options["widths"][-1])
        width = next(width for width in options["widths"] if kept.max() <= width)
        assert isinstance(batch.examples, Bucketed)
        np.testing.assert_array_equal(batch.examples.tokens, pad(rows, width, **sides))
        np.testing.assert_array_equal(batch.examples.lengths, kept)
        assert batch.examples.tokens.shape == (options["size"], width)
        assert [leaf.dtype.name for leaf in (*batch.examples[:2], batch.weights)] == ["int32", "int32", "float32"]


@given(problems())
def test_no_more_is_filled_up_than_one_batch_a_bucket(problem):
    """Only the last batch of each bucket has rows of weight 0."""
    tokens, labels, options, number = problem
    batches = list(Buckets(tokens, labels, **options).epoch(number))
    unfilled = [batch.examples.tokens.shape[1] for batch in batches if not batch.weights.all()]
    assert len(unfilled) == len(set(unfilled))
    assert all(batch.weights.any() for batch in batches)


@given(problems(), st.data())
def test_a_pass_begun_later_is_the_tail_of_the_whole(problem, data):
    """From another object, asked for other passes before: the order depends on seed and number alone."""
    tokens, labels, options, number = problem
    whole, other = list(Buckets(tokens, labels, **options).epoch(number)), Buckets(tokens, labels, **options)
    start = data.draw(st.integers(0, len(other)))
    list(other.epoch(number + 1))
    assert_equal(list(other.epoch(number, start)), whole[start:])


@given(problems(), st.integers(1, 3))
def test_the_parts_together_are_the_whole(problem, count):
    """Processes that each take their share make up each batch, in order."""
    tokens, labels, options, number = problem
    buckets = Buckets(tokens, labels, **(options | {"size": options["size"] * count}))
    shares = [list(buckets.epoch(number, part=(index, count))) for index in range(count)]
    together = [jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) for parts in zip(*shares, strict=True)]
    assert_equal(together, list(buckets.epoch(number)))


def test_another_seed_or_pass_is_another_order():
    """Of sequences within their bucket and of buckets; without a seed from the narrowest to the widest, as given."""
    tokens, labels = Ragged.of([[1] * (1 + index % 3) for index in range(60)]), np.arange(60)
    make = lambda seed: Buckets(tokens, labels, size=2, widths=(1, 2, 3), seed=seed)
    passes = {(seed, number): list(make(seed).epoch(number)) for seed in range(2) for number in range(2)}
    widths = {tuple(batch.examples.tokens.shape[1] for batch in batches) for batches in passes.values()}
    narrow = {
        tuple(label for batch in batches if batch.examples.tokens.shape[1] == 1 for label in batch.examples.labels.tolist())
        for batches in passes.values()
    }
    assert len(widths) == len(narrow) == 4
    given_order = [label for batch in make(None).epoch(0) for label in batch.examples.labels.tolist()]
    assert given_order == [*range(0, 60, 3), *range(1, 60, 3), *range(2, 60, 3)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": ()}, r"widths must be at least one number above 0, and grow, got \[\]"),
        ({"widths": (0, 2)}, r"got \[0, 2\]"),
        ({"widths": (3, 3)}, r"got \[3, 3\]"),
        ({"labels": [1]}, "a label for each, got 2 sequences and 1 labels"),
        ({"tokens": Ragged.of([]), "labels": []}, "a label for each, got 0 sequences and 0 labels"),
        ({"size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, or None, got -1"),
        ({"padding": "left"}, "padding must be one of 'pre', 'post', got 'left'"),
    ],
)
def test_buckets_that_cannot_be_filled_are_refused(changed, message):
    """At once, not when the first batch is asked for."""
    problem = {"tokens": Ragged.of([[1], [2, 3]]), "labels": [0, 1], "size": 2, "widths": (2, 3)}
    with pytest.raises(ValueError, match=message):
        Buckets(**(problem | changed))


def test_a_start_or_part_that_is_not_there_is_refused():
    """As for all batches."""
    buckets = Buckets(Ragged.of([[1], [2, 3]]), [0, 1], size=2, widths=(1, 2))
    with pytest.raises(ValueError, match="start must be from 0 to 2, the number of batches in a pass, got 3"):
        next(buckets.epoch(0, start=3))
    with pytest.raises(ValueError, match=r"part must be \(i, n\) with i from 0 to n - 1, got \(2, 2\)"):
        next(buckets.epoch(0, part=(2, 2)))
