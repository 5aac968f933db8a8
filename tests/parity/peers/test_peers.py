"""Rules for every peer: it is asked only for what it has, and gradients return in our layout."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jlstm import LSTM, Bidirectional, LSTMCarry, Stack
from parity import Problem, compare, ours, peers, report, table
from parity.peers import _exchange as exchange
from parity.table import OPTIONS
from peer_cases import our_own_peer

PLAIN = Problem(LSTM(4), dtype="float64")


def peer(monkeypatch, **attributes):
    """Register a peer that computes as we do, under the name "some"."""
    framework = our_own_peer()
    vars(framework).update(attributes)
    monkeypatch.setattr(peers, "load", lambda name: framework)
    return framework


def forward_only(problem):
    """Return what a peer without a backward direction says that it lacks."""
    return "forward only" if "reverse=True" in repr(problem.layer) or "Bidirectional" in repr(problem.layer) else ""


def test_the_rows_of_a_peer_are_those_that_it_has(monkeypatch):
    """Rows hold every pair that the peer has, and no case that it cannot run."""
    framework = peer(monkeypatch, lacks=forward_only)
    rows = table.rows(framework)
    covered_pairs, possible_pairs = table.coverage(rows, framework)
    assert covered_pairs == possible_pairs > 500
    assert {row["direction"] for row in rows} == {"forward"}
    assert {row["layer"] for row in rows} == {"lstm", "step", "stack2", "stack3"}
    for option in set(OPTIONS) - {"direction", "layer"}:
        assert {row[option] for row in rows} == set(OPTIONS[option])
    cases = list(table.cases("some", framework))
    extra_names = {"lstm wide", "lstm 1000 steps", "lstm mask-right padding-nan"}
    assert {case.name for case in cases} == {*table.named_rows(framework), *extra_names}
    assert not any(map(forward_only, (case.problem for case in cases)))
    assert not any(case.known_bug for case in cases)


def test_what_a_peer_lacks_is_refused_when_asked_for(monkeypatch):
    """The case is refused, not run and called a difference."""
    peer(monkeypatch, lacks=forward_only)
    with pytest.raises(ValueError, match="peer 'some' cannot be asked for this: forward only"):
        compare(Problem(LSTM(4, reverse=True)), "some")
    assert compare(PLAIN, "some").verdict == "pass"


def test_a_known_bug_is_a_case_of_its_own(monkeypatch):
    """It is in no row. Once the peer mends it, the case passes and its name remains to be removed."""
    framework = peer(
        monkeypatch,
        lacks=lambda problem: "",
        known_bug=lambda problem: "wrong at length 0" if exchange.shortest(problem) == 0 else "",
    )
    bug_cases = [case for case in table.cases("some", framework) if case.known_bug]
    assert [(case.name, case.known_bug) for case in bug_cases] == [("lstm mask-row", "wrong at length 0")]
    assert "row" not in {row["mask"] for row in table.rows(framework)}


def test_what_a_peer_does_not_give_is_not_compared_and_said(monkeypatch):
    """Line and JSON list what is missing. Missing more than declared is an error."""
    without = lambda *names: lambda *args: {k: v for k, v in ours.run(*args).items() if not k.startswith(names)}
    peer(monkeypatch, NOT_GIVEN=("d_",), run=without("d_"))
    comparison = compare(PLAIN, "some")
    assert comparison.verdict == "pass"
    assert [q.name for q in comparison.quantities] == ["carry.h", "carry.c", "ys"]
    assert comparison.not_given[0] == "d_carry.h"
    outcome = report.Outcome(table.Case("plain", PLAIN, "some"), comparison)
    assert report.line(outcome).endswith("plain (without 6 of 9 quantities, which the peer does not give)")
    assert report.contents([outcome], (1, 2))["cases"][0]["not_given"] == list(comparison.not_given)
    peer(monkeypatch, NOT_GIVEN=("d_",), run=without("d_", "ys"))
    with pytest.raises(ValueError, match="these are not in all: ys"):
        compare(PLAIN, "some")
    peer(monkeypatch, NOT_GIVEN=("d_", "ys", "carry"), run=lambda *args: {})
    with pytest.raises(ValueError, match="there is nothing to compare"):
        compare(PLAIN, "some")


def test_gradients_go_back_the_way_that_weights_came():
    """They pass a reordering, a sign, a sum and a second bias. Missing ones become NaN."""
    params = {"bias": np.ones(4), "kernel": np.ones((2, 3))}

    def dump(tree):
        return {"w": -tree["kernel"].T[::-1], "b": tree["bias"] - 1, "second": np.zeros(4)}

    gradients = {"w": np.arange(6.0).reshape(3, 2), "b": np.arange(4.0), "second": np.full(4, 7.0)}
    back = exchange.pulled(dump, params, gradients)
    np.testing.assert_array_equal(back["kernel"], -np.arange(6.0).reshape(3, 2)[::-1].T)
    np.testing.assert_array_equal(back["bias"], np.arange(4.0))
    lost = exchange.pulled(lambda tree: {"b": tree["bias"]}, params, {"b": np.arange(4.0)})
    assert np.isnan(lost["kernel"]).all()


def test_states_come_back_from_their_row():
    """Forward comes before backward, and the lowest layer first."""
    layer = Stack((Bidirectional(LSTM(2)), LSTM(3)))
    row = [LSTMCarry(k, k + 0.5) for k in range(3)]
    carry = exchange.carry_of(layer, iter(row))
    assert carry == ({"forward": row[0], "backward": row[1]}, row[2])
    assert exchange.states(carry) == row
    assert [part for part, _ in exchange.layers(layer, None)] == list(layer.layers)
    assert exchange.layers(LSTM(2), 5) == [(LSTM(2), 5)]
    assert jax.tree.leaves(carry)[0] == 1  # dict leaves are sorted by key, unlike these


def test_the_documentation_has_all_peers():
    """The documentation lists exactly the peers that there are."""
    table_of_peers = (
        (Path(__file__).parents[3] / "docs" / "parity.md").read_text(encoding="utf-8").split("| `--peer` |")[1].split("\n\n")[0]
    )
    first = [line.split("|")[1] for line in table_of_peers.splitlines()[2:]]
    assert sorted(re.findall(r"`(\w+)`", " ".join(first))) == peers.names()


@pytest.mark.parametrize("name", peers.names())
def test_every_peer_defines_what_the_protocol_asks_for(name):
    """A peer that is installed has each function of `Peer`."""
    try:
        assert isinstance(peers.load(name), peers.Peer)
    except peers.MissingPeerError as error:
        pytest.skip(str(error))


NESTED = [
    Stack((Stack((LSTM(3),)), LSTM(4))),
    Stack((Stack((LSTM(3), LSTM(3))), LSTM(4))),
    Bidirectional(Stack((LSTM(3), LSTM(4)))),
]


@pytest.mark.parametrize("layer", NESTED, ids=str)
@pytest.mark.parametrize("name", peers.names())
def test_a_peer_runs_nested_layers_or_says_why_not(name, layer):
    """Layers inside layers, which few frameworks have, are refused in a sentence and never end in another error."""
    try:
        peer = peers.load(name)
    except peers.MissingPeerError as error:
        pytest.skip(str(error))
    why = peer.lacks(Problem(layer))
    assert "\n" not in why
    if not why:
        assert compare(Problem(layer), name).verdict == "pass"


def test_a_layer_that_is_set_to_float64_is_compared():
    """`Problem` asks for the layer's dtype, and its shapes are found while JAX has float64 off."""
    assert compare(Problem(LSTM(4, dtype="float64"), dtype="float64"), peer="jax_rnn").verdict == "pass"
