"""The second table holds every pair of options that a peer has, for the cells and variants outside the first table."""

import pytest

from jlstm import RNN, Bidirectional, ConvLSTMCell, LSTMCell
from parity import compare, peers, table, variants_table
from parity.variants_table import BASE, OPTIONS, possible
from peer_cases import our_own_peer

pytestmark = pytest.mark.no_cover


def test_every_sensible_pair_is_held():
    """Every valid pair is in a row, no row is invalid, and none is a plain LSTM."""
    rows = variants_table.rows()
    covered_pairs, possible_pairs = variants_table.coverage(rows)
    assert covered_pairs == possible_pairs > 400
    assert all(map(possible, rows))
    assert {row["cell"] for row in rows} == set(OPTIONS["cell"])
    for row in rows:
        assert row["cell"] != "lstm" or any(row[name] != BASE[name] for name in variants_table.VARIANTS)
    assert variants_table.coverage(rows[:-1])[0] < possible_pairs


@pytest.mark.slow
def test_names_are_their_own():
    """Names are unique over both tables, so that a case can be selected. There are dozens, not hundreds."""
    names = list(variants_table.named_rows())
    assert len(set(names)) == len(names) < 50
    assert not set(names) & set(table.named_rows())


def test_sizes_differ():
    """All sizes differ, so that a transpose cannot hide, and a projection is smaller than the units."""
    for *sizes, units, projection in variants_table.SIZES:
        assert len({*sizes, units, projection}) == 5
        assert projection < units
    assert len(set(variants_table.CONVOLVED)) == 4


@pytest.mark.parametrize(
    ("peer", "cells", "variants"),
    [
        ("equinox", {"gru"}, set()),
        ("haiku", {"gru-before", "conv1d", "conv2d", "conv3d"}, set()),
        ("flax_linen", {"gru", "conv1d", "conv2d", "conv3d"}, set()),
        ("torch", {"lstm", "gru"}, {"projection"}),
        ("onnx", {"lstm", "gru", "gru-before"}, {"peephole", "gate_clip", "coupled"}),
    ],
)
def test_each_peer_is_asked_for_what_it_has(peer, cells, variants):
    """A peer's rows hold every pair that it has and nothing that it lacks."""
    try:
        framework = peers.load(peer)
    except peers.MissingPeerError as missing:  # only CI always has them
        pytest.skip(str(missing))
    rows = variants_table.rows(framework)
    covered_pairs, possible_pairs = variants_table.coverage(rows, framework)
    assert covered_pairs == possible_pairs > 0
    assert {row["cell"] for row in rows} == cells
    assert {name for name in variants_table.VARIANTS if len({row[name] for row in rows}) > 1} == variants
    assert 3 <= len(list(variants_table.cases(peer, framework))) <= 40


@pytest.mark.xdist_group("tensorflow")
def test_wrapped_cells_are_cases_of_the_peer_that_has_them():
    """Only TensorFlow 1 has wrappers, since its masks can be set."""
    case_names = {name: {case.name for case in variants_table.cases(name, peers.load(name))} for name in ("tf1", "keras")}
    assert {"lstm residual", "lstm dropout-around variational"} <= case_names["tf1"]
    assert not any("residual" in name or "around" in name for name in case_names["keras"])


@pytest.mark.xdist_group("tensorflow")
@pytest.mark.parametrize(
    ("peer", "cells", "variants"),
    [
        ("keras", {"gru", "gru-before", "conv1d", "conv2d", "conv3d"}, set()),
        ("tf_keras", {"gru", "gru-before", "conv1d", "conv2d", "conv3d"}, set()),
        ("tf1", {"lstm", "gru-before"}, {"peephole", "projection", "cell_clip"}),
        ("tf1_block", {"lstm"}, set()),  # always with peepholes
    ],
)
def test_so_are_those_on_tensorflow(peer, cells, variants):
    """Keras has no LSTM variant, and TensorFlow 1 has the most."""
    test_each_peer_is_asked_for_what_it_has(peer, cells, variants)


@pytest.mark.slow
def test_a_peer_without_limits_is_asked_for_everything(monkeypatch):
    """A peer that lacks nothing gets all rows."""
    peer = our_own_peer()
    monkeypatch.setattr(peers, "load", lambda name: peer)
    assert variants_table.rows(peer) == variants_table.rows()
    case = next(case for case in variants_table.cases("ours", peer) if "coupled" in repr(case.problem.layer))
    assert compare(case.problem, "ours").verdict == "pass"


def test_problems_are_what_rows_say():
    """The layer of a problem has the options of its row."""
    row = BASE | {"layer": "bidirectional", "peephole": True, "projection": "clip", "gate_clip": 0.7, "coupled": "f=1-i"}
    options = {"peephole": True, "projection": 4, "projection_clip": 0.3, "gate_clip": 0.7, "coupled": "f=1-i"}
    assert variants_table.problem(row).layer == Bidirectional(RNN(LSTMCell(6, **options)))
    row = BASE | {"cell": "conv3d", "padding": "valid", "direction": "backward", "bias": False}
    cell = ConvLSTMCell(4, (2, 1, 3), (3, 2, 4), padding="valid", use_bias=False)
    assert variants_table.problem(row).layer == RNN(cell, reverse=True)
