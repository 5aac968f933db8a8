"""`python -m parity`, against Keras on TensorFlow itself."""

import json
import os
import re
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import parity.__main__ as cli
from jlstm import LSTM, Bidirectional, Stack
from parity import Problem, compare, measure, ours, peers, pool, report, table
from parity.compilation import compile_fast
from parity.diagnosis import Diagnosis
from parity.measure import Comparison, Quantity
from parity.peers.keras import keras
from parity.values import draw
from peer_cases import our_own_peer

pytestmark = pytest.mark.xdist_group("tensorflow")  # a gigabyte a process: one worker runs all of these


FLAGS = {"json": "--json", "html": "--html", "xml": "--junit"}


def test_a_run_prints_a_line_a_case_and_writes_all_it_measured(capsys, tmp_path):
    """Selected cases pass, with dtype, error and verdict in their lines and every quantity in the JSON."""
    path = tmp_path / "report.json"
    files = [text for kind in ("json", "html", "xml") for text in (FLAGS[kind], str(tmp_path / f"report.{kind}"))]
    status = cli.main(["--peer", "keras", "--case", "stack2*mask-left", "--dtype", "float64", "--jobs", "1", *files])
    printed = capsys.readouterr().out
    contents = json.loads(path.read_text())
    assert status == 0
    assert len(contents["cases"]) > 1
    for case in contents["cases"]:
        assert (case["peer"], case["dtype"], case["verdict"]) == ("keras", "float64", "pass")
        ys = next(q for q in case["quantities"] if q["name"] == "ys")
        assert max(ys["peer_by_time"]) == ys["peer"]
        assert {"ys", "carry.1.c", "d_xs", "d_params.0.kernel", "d_params.1.recurrent_kernel"} <= {
            q["name"] for q in case["quantities"]
        }
        assert any(line.startswith("pass       float64") and line.endswith(case["name"]) for line in printed.splitlines())
    assert f"{len(contents['cases'])} cases in" in printed
    assert "tensorflow" in contents["versions"]["keras"]
    assert contents["pairs"]["held"] < contents["pairs"]["sensible"]
    assert f"<title>Parity with keras: 0 of {len(contents['cases'])} fail</title>" in (tmp_path / "report.html").read_text()
    assert len(list(ET.parse(tmp_path / "report.xml").iter("testcase"))) == len(contents["cases"])
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_two_processes_give_what_one_gives():
    """Outcomes come in order, and our errors agree to the last bit."""
    cases = [table.Case(f"seed {seed}", Problem(LSTM(4, backend="scan"), seed=seed), "jax_rnn") for seed in (0, 1)]
    one_process, two_processes = ([outcome.comparison for outcome in pool.run(cases, jobs, fast=True)] for jobs in (1, 2))
    assert one_process == two_processes


@pytest.mark.parametrize(("arguments", "fast"), [([], True), (["--quick"], False), (["--optimized"], False)])
def test_all_cases_are_compiled_fast_and_a_quick_part_well(monkeypatch, arguments, fast):
    """Processes compile fast unless an option says otherwise. A user's own flags come last and win."""
    fast_flags = []
    monkeypatch.setattr(cli, "run", lambda cases, jobs, fast: fast_flags.append(fast) or [])
    monkeypatch.setattr(cli, "with_peers", lambda options: [table.Case("small", Problem(LSTM(4)), "torch")])
    monkeypatch.setattr(cli, "coverage", lambda cases: (0, 0))
    monkeypatch.setattr(report, "summary", lambda *args: "")
    cli.main(arguments)
    assert fast_flags == [fast]
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")
    compile_fast()
    assert os.environ["XLA_FLAGS"].startswith("--xla_backend_optimization_level=0 ")
    assert os.environ["XLA_FLAGS"].endswith(" --xla_backend_optimization_level=2")


def test_known_bug_of_the_peer_is_named_and_accepted(capsys, monkeypatch):
    """Keras masks outputs of an unrolled backward run in forward order, and the verdict blames Keras."""
    monkeypatch.setattr(measure, "explain", lambda *_: Diagnosis())  # skips the search for a cause, which has its own tests
    assert cli.main(["--peer", "keras", "--case", "lstm backward mask-right zero-output unrolled", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "peer-bug   float64" in printed
    assert "Keras with unroll=True masks the outputs" in printed
    assert "1 peer-bug, 0 fail" in printed


def test_a_bug_that_the_peer_has_mended_fails(capsys, monkeypatch):
    """A mended bug fails, so that somebody takes it out of the table."""
    cases = [replace(case, known_bug="masks the outputs") for case in table.cases() if case.name == "lstm wide"][:1]
    monkeypatch.setattr(cli, "with_peers", lambda options: cases)
    assert cli.main(["--jobs", "1"]) == 1
    assert "(the peer has mended this, take the case out: masks the outputs)" in capsys.readouterr().out


def test_failure_is_reported_with_exit_status_1(capsys, monkeypatch):
    """The line of a wrong gradient says fail and what was allowed."""

    def wrong(problem, values):
        return ours.run(problem, values) | {"d_xs": np.zeros((problem.batch, problem.time, problem.features))}

    monkeypatch.setattr(pool, "compare", lambda problem, peer: compare(problem, peer, run=wrong))
    monkeypatch.setattr(cli, "with_peers", lambda options: [table.Case("small", Problem(LSTM(4), dtype="float32"))])
    assert cli.main([]) == 1
    printed = capsys.readouterr().out
    assert "fail       float32" in printed
    assert "\n         ours: the outputs agree, but d_xs is zero\n         worst: d_xs at batch " in printed


def test_unknown_bug_of_a_peer_is_not_accepted():
    """A wrong peer without a listed bug fails, so that somebody looks at it."""
    wrong_peer = Quantity("ys", scale=1, ours=0, peer=1, eps=2**-52, limit=1e-12, peer_limit=1e-12)
    comparison = Comparison("keras", "float64", (wrong_peer,))
    case = table.Case("some", Problem(LSTM(4)))
    outcome = report.Outcome(case, comparison)
    assert comparison.verdict == "peer-bug"
    assert not outcome.accepted
    assert "not known before" in report.line(outcome)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "keras", "--case", "no such case"], "no case has 'no such case' in its name"),
        (["--dtype", "int8"], "invalid choice: 'int8'"),
        (["--seed", "x"], "invalid int value: 'x'"),
        (["--seed", "-1"], "--seed must not be negative"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--json", "/no/such/folder/report.json"], "there is no folder /no/such/folder"),
        (["--html", "/no/such/folder/report.html"], "there is no folder /no/such/folder"),
        (["--junit", "/no/such/folder/report.xml"], "there is no folder /no/such/folder"),
    ],
)
def test_wrong_usage_exits_with_2_before_anything_runs(arguments, message, capsys):
    """One sentence says what is wrong."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_unknown_peer_exits_with_2(capsys):
    """The sentence lists the known peers."""
    assert cli.main(["--peer", "theano"]) == 2
    assert f"there is no peer 'theano': choose among {', '.join(peers.names())}\n" in capsys.readouterr().err


def test_missing_tensorflow_is_one_sentence_and_exit_status_2(capsys, monkeypatch):
    """The run says what to install, and does not look like a pass."""
    for name in ("parity.peers.keras", "parity.peers._keras"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert cli.main(["--peer", "keras"]) == 2
    message = capsys.readouterr().err
    assert re.search(r'''peer 'keras' cannot be imported \(.*tensorflow.*\): pip install "jlstm\[parity\]"''', message)
    assert "Traceback" not in message


def test_other_keras_backend_is_refused(monkeypatch):
    """With Keras on JAX the run would compare JAX with JAX."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.delitem(sys.modules, "parity.peers.keras", raising=False)
    with pytest.raises(peers.MissingPeerError, match="Keras runs on 'jax' here, set KERAS_BACKEND=tensorflow"):
        peers.load("keras")


@pytest.mark.slow
def test_another_peer_runs_all_rows_and_not_the_bugs_of_keras(monkeypatch):
    """A new file in `peers` is compared at once. Without any peer the run is an error."""
    monkeypatch.setattr(peers, "names", lambda: ["other"])
    peer = our_own_peer()
    monkeypatch.setattr(peers, "load", lambda name: peer)
    parse = cli.parser().parse_args
    everything, peer_cases = cli.selected(parse([])), cli.with_peers(parse(["--peer", "other"]))
    assert {case.peer for case in peer_cases} == {"other"}
    assert len(peer_cases) == sum(not case.known_bug for case in everything)
    counts = [case_table.coverage(case_table.rows()) for case_table in cli.TABLES]
    assert cli.coverage(peer_cases) == tuple(map(sum, zip(*counts, strict=True)))
    monkeypatch.setattr(peers, "names", list)
    with pytest.raises(peers.MissingPeerError, match="there is no peer to compare with"):
        cli.with_peers(parse([]))


def test_rounding_worse_than_the_peers_is_not_accepted():
    """The median of ours/peer may be 1.1 over a whole table; a few cases are not judged."""

    def outcomes(off, number):
        quantity = Quantity("ys", scale=1, ours=off, peer=1e-6, eps=2**-23, limit=1, peer_limit=np.inf)
        return [report.Outcome(table.Case("some", Problem(LSTM(4))), Comparison("keras", "float32", (quantity,)))] * number

    assert report.accepted(outcomes(1.09e-6, 100))
    assert not report.accepted(outcomes(1.11e-6, 100))
    assert report.accepted(outcomes(1.11e-6, 5))


def test_json_of_a_failure_is_json(tmp_path):
    """Distances that are NaN are written as null."""
    quantity = Quantity("ys", scale=1, ours=np.nan, peer=0, eps=2**-23, limit=1, peer_limit=np.inf)
    outcome = report.Outcome(table.Case("some", Problem(LSTM(4))), Comparison("keras", "float32", (quantity,)))
    report.write_json(tmp_path / "report.json", [outcome], (1, 2))
    contents = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert contents["cases"][0]["quantities"][0]["ours"] is None
    assert contents["cases"][0]["verdict"] == "fail"


def test_a_single_step_is_compared():
    """`step=True` alone selects a single step."""
    assert compare(Problem(LSTM(4), step=True, dtype="float64")).verdict == "pass"


def test_list_names_the_cases_and_runs_none(capsys):
    """`--list` prints one line for each case."""
    assert cli.main(["--peer", "keras", "--list", "--dtype", "bfloat16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(case.problem.dtype == "bfloat16" for case in table.cases())


def test_the_backend_asked_for_runs_our_side_however_deep():
    """The backend is set in every cell of every layer, and the case keeps its name."""
    options = cli.parser().parse_args(["--backend", "scan"])
    layers = {case.name: case.problem.layer for case in cli.selected(options)}
    assert layers.keys() == {case.name for case in cli.selected(cli.parser().parse_args([]))}
    assert all("backend='scan'" in repr(layer) for layer in layers.values())
    nested = Stack((Bidirectional(LSTM(3)), LSTM(2, backend="fused")))
    assert ours.with_backend(nested, "scan") == Stack((Bidirectional(LSTM(3, backend="scan")), LSTM(2, backend="scan")))


def test_quick_is_a_part_and_seed_another_draw():
    """--quick keeps all dtypes; --seed changes the numbers and not the cases."""
    parse = cli.parser().parse_args
    everything, quick, reseeded = (cli.selected(parse(arguments)) for arguments in ([], ["--quick"], ["--seed", "1"]))
    assert len(quick) < len(everything) / 6
    assert {case.problem.dtype for case in quick} == set(table.DTYPES)
    assert [case.name for case in reseeded] == [case.name for case in everything]
    assert (draw(reseeded[0].problem).xs != draw(everything[0].problem).xs).any()
