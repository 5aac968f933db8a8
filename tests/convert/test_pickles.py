"""Pickles are described instruction by instruction: no object is made, and memory stays in proportion to the file."""

import pickle
import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.convert import pickles
from jlstm.convert.files import RefusalError

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.text() | st.integers() | st.binary()
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner), max_leaves=20
)


def rebuilt(value):
    """Return the Python values that a description stands for."""
    if not isinstance(value, pickles.Value):
        return value
    if value.kind == "dict":
        return {rebuilt(key): rebuilt(part) for key, part in value.items()}
    parts = [rebuilt(part) for part in value]
    if value.kind == "object":  # bytes, in old protocols
        assert parts[0] in ("_codecs.encode", "__builtin__.bytes")
        return parts[1][0].encode(parts[1][1]) if parts[1] else b""
    return parts if value.kind == "list" else tuple(parts)


@pytest.mark.slow
@given(TREES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_what_was_pickled_is_described(tree, protocol):
    """The description is right in every pickle protocol."""
    content = pickle.dumps(tree, protocol)
    assert rebuilt(pickles.described(content, len(content))[0]) == tree


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_are_their_class_arguments_items_and_state(protocol):
    """Objects are described by these parts, and none of them is made."""
    content = pickle.dumps(OrderedDict(a=1), protocol)
    value, references = pickles.described(content, len(content))
    assert value.kind == "object"
    assert value[0] == "collections.OrderedDict"
    assert isinstance(value[0], pickles.Global)
    assert protocol < 2 or list(value.items()) == [("a", 1)]
    assert references == []


GROWN_TUPLES = b")q\0" + b"h\0h\0\x86q\0" * 60
GROWN_LISTS = b"".join(b"]q" + bytes([k]) + b"0" for k in range(61)) + b"".join(
    b"h%c(h%ch%ce0" % (k, k + 1, k + 1) for k in range(60)
)
GROWING = {
    "called": (GROWN_TUPLES + b")R.", "too often"),
    "a key": (GROWN_TUPLES + b"}h\0h\0s.", "too often"),
    "alone": (GROWN_TUPLES + b"h\0.", "too often"),
    "lists called": (GROWN_LISTS + b"h\0)R.", "neither a class nor a function"),
    "a list as a name": (GROWN_LISTS + b"h\0h\0\x93.", "where a name belongs"),
    "a tuple that is extended": (b")(h\0e.", "Error"),
    "a tuple that is extended with numbers": (b")K\1a.", "extends a tuple"),
}


@pytest.mark.parametrize(("pickled", "complaint"), GROWING.values(), ids=GROWING)
def test_pickles_that_grow_are_refused_before_they_do(pickled, complaint):
    """Sixty pairs of the same pair have 2⁶⁰ leaves when hashed or printed, as PyTorch does."""
    with pytest.raises(RefusalError, match=complaint):
        pickles.described(b"\x80\x02" + pickled, len(pickled) + 2)


@pytest.mark.table(quick=3)
@pytest.mark.parametrize(
    "instructions",
    [*(instruction * 10**4 for instruction in (b")", b"}", b"(", b"]", b"N", b"K\1", b"N\x85")), b"]" * 10**4 + b"a" * 10**4],
    ids=lambda content: repr(content[:2]),
)
def test_pickles_are_described_in_memory_in_proportion(instructions):
    """The worst cases are the shortest values and deeply nested lists: a byte takes about 90 bytes."""
    content = b"\x80\x02]" + instructions
    tracemalloc.start()
    with pytest.raises(RefusalError, match="no whole pickle"):
        pickles.described(content, len(content))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 100 * len(content)
