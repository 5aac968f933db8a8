"""Command line: `python -m parity` runs the table of cases, `python -m parity model.keras` checks a model file.

Exit status 0: both sides agree. 1: they differ, or a recurrent part of the model file was not compared. 2: wrong usage, an
unreadable file, or a missing peer.
"""

import argparse
import ast
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from jlstm._src.packages import needed_by
from jlstm.backends import BACKENDS
from parity import junit, model, ours, peers, report, table, variants_table
from parity.pool import run
from parity.problem import Problem
from parity.table import DTYPES, Case

with needed_by("python -m parity", "jlstm[parity]"):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from parity import page


class Table(Protocol):
    """The functions of a table of cases, which is a module. `parity.table` says what they return."""

    def named_rows(self, framework: peers.Peer | None = None) -> dict[str, dict[str, Any]]:
        """Return the rows of options that a peer can run, by the names of their cases."""

    def coverage(self, cases: Iterable[dict[str, Any]], framework: peers.Peer | None = None) -> tuple[int, int]:
        """Return how many pairs of options rows hold, and how many the table has."""

    def cases(self, peer: str = "keras", framework: peers.Peer | None = None) -> Iterable[Case]:
        """Yield the cases of a peer."""


TABLES: tuple[Table, ...] = (table, variants_table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the requested cases, print one line per case, and return the exit status.

    Args:
        arguments: command-line arguments; None reads `sys.argv`.

    Returns:
        The exit status: 0, 1 or 2 (see the module docstring).
    """
    usage = parser()
    options = usage.parse_args(arguments)
    if options.jobs is not None and options.jobs < 1:
        usage.error(f"--jobs must be at least 1, got {options.jobs}")
    if options.seed < 0:
        usage.error(f"--seed must not be negative, got {options.seed}")
    for file in filter(None, (options.json, options.html, options.junit, options.save)):
        if not Path(file).parent.is_dir():
            usage.error(f"there is no folder {Path(file).parent} to write {Path(file).name} to")
    if options.model:
        return of_model(options)
    if options.inputs or options.save or options.lengths or options.option:
        usage.error("--inputs, --lengths, --option and --save are for a model: name its file")
    started = time.monotonic()
    try:
        cases = with_peers(options)
    except (ValueError, peers.MissingPeerError) as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    if not cases:
        usage.error(f"no case has {options.case!r} in its name: --list names them all")
    if options.list:
        print("\n".join(f"{case.problem.dtype:10}{case.peer:14}{case.name}" for case in cases))
        return 0
    processes = options.jobs or min(os.cpu_count() or 1, 4, 1 + len(cases) // 10)
    # XLA's optimizations take most of a table's time. --quick keeps them, so that optimized programs are compared too.
    outcomes = show(run(cases, processes, fast=not (options.quick or options.optimized)), len(cases))
    pair_counts = coverage(cases)
    seconds = time.monotonic() - started
    print(report.summary(outcomes, pair_counts, seconds))
    write_files(options, outcomes, pair_counts, seconds)
    return 0 if report.accepted(outcomes) else 1


def of_model(options: argparse.Namespace) -> int:
    """Check the recurrent layers of a model file and return the exit status."""
    started = time.monotonic()
    try:
        xs = model.read_inputs(options.inputs) if options.inputs else None
        inputs = model.Inputs(xs, model.read_lengths(options.lengths) if options.lengths else None, options.seed)
        file = model.read(options.model, options.case, dict(map(assignment, options.option)))
        if options.list:
            print("\n".join(f"{name}: {layer}" for name, (layer, _) in file.layers.items()))
            return 0
        compared = model.outcomes(file, inputs, dtype=options.dtype, backend=options.backend)
        outcomes = show(compared, len(file.layers))
        if not outcomes:
            raise ValueError(f"there is nothing to compare in {options.dtype}: leave --dtype out")
        seconds = time.monotonic() - started
        print(model.summary(file, outcomes, seconds))
        write_files(options, outcomes, None, seconds, model.facts(file, outcomes))
        passed = model.verdict(file, outcomes) == "pass"
        if options.save and passed:
            for name, written in model.save(options.save, file.layers).items():
                print(f"{name or 'the layer'}: written to {written}")
    except (ValueError, ImportError, OSError) as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    if options.save and not passed:
        print(f"nothing is written to --save: the verdict is {model.verdict(file, outcomes)}", file=sys.stderr)
    return 0 if passed else 1


def assignment(text: str) -> tuple[str, Any]:
    """Split NAME=VALUE, such as "forget_bias=0", into the name and the parsed value.

    Args:
        text: one `--option` of the command line.

    Returns:
        The name and the value. A value that is not a Python literal stays a string.

    Raises:
        ValueError: `text` has no name or no "=".
    """
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise ValueError(f"--option must be NAME=VALUE, such as forget_bias=0, got {text[:80]!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a plain word, such as hard_sigmoid


def write_files(
    options: argparse.Namespace,
    outcomes: list[report.Outcome],
    pair_counts: tuple[int, int] | None,
    seconds: float,
    file: dict[str, Any] | None = None,
) -> None:
    """Write the JSON, HTML and JUnit reports that the command line asks for.

    Args:
        options: the parsed command line.
        outcomes: the cases that were run.
        pair_counts: the number of covered pairs of options and of all sensible pairs; None for a model file.
        seconds: how long the run took.
        file: for a model file, the result of `parity.model.facts`.

    Raises:
        OSError: a file cannot be written.
    """
    if options.json:
        report.write_json(options.json, outcomes, pair_counts, file)
    if options.html:
        page.write_html(options.html, report.contents(outcomes, pair_counts, file))
    if options.junit:
        junit.write_junit(options.junit, outcomes, seconds, file)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    usage = argparse.ArgumentParser(
        prog="python -m parity",
        description="Run the same weights here and in another framework, and hold both against a float64 textbook. With a "
        "FILE, convert the recurrent layers of a model and run each beside the framework's own, on the same inputs; the truth is "
        "then what the framework itself computes in the highest precision that it has.",
    )
    add = usage.add_argument
    add(
        "model",
        metavar="FILE",
        nargs="?",
        help=f"a model: {', '.join(model.SUFFIXES)}, or a TensorFlow checkpoint; without one, the table is run",
    )
    add(
        "--inputs", metavar="NPZ", help="besides random inputs, one array (batch, time, features), given to the layers themselves"
    )
    add("--lengths", metavar="N,N,…", help="how many steps of each sequence count, of a model's inputs; all others are padding")
    add(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="what a model's file does not state, for its reader in jlstm.convert: recurrent_activation=hard_sigmoid_0.2",
    )
    add("--save", metavar="FILE", help="write the model's converted layers, if they are the same, for jlstm.load_layer")
    add("--peer", default="all", help="framework to compare with (default: all that are installed)")
    add(
        "--case",
        metavar="PATTERN",
        default="*",
        help="only cases, or a model's layers, whose name has this in it; * and ? stand for any text",
    )
    add("--backend", choices=BACKENDS, default="auto", help="what runs our side (default: auto)")
    add("--dtype", choices=DTYPES, help="only cases in this dtype")
    add("--seed", type=int, default=0, metavar="N", help="other random numbers (default: 0)")
    add("--quick", action="store_true", help="every 23rd case, of several peers fewer of each")
    add("--optimized", action="store_true", help="let XLA optimize all it can, as with --quick: three times as long")
    add("--jobs", type=int, metavar="N", help="processes (default: one a core, up to 4, where there is work for them)")
    add("--json", metavar="FILE", help="write all that was measured to this file")
    add("--html", metavar="FILE", help="write a page to look at to this file")
    add("--junit", metavar="FILE", help="write JUnit's XML, for systems that read it, to this file")
    add("--list", action="store_true", help="name the cases and stop")
    return usage


def coverage(cases: Iterable[Case]) -> tuple[int, int]:
    """Return how many sensible pairs of options the cases cover, and how many there are, summed over all peers."""
    names: dict[str, set[str]] = {}
    for case in cases:
        names.setdefault(case.peer, set()).add(case.name)
    counts = []
    for peer, chosen in names.items():
        framework = peers.load(peer)
        for case_table in TABLES:
            rows = [row for name, row in case_table.named_rows(framework).items() if name in chosen]
            counts.append(case_table.coverage(rows, framework))
    return sum(held for held, _ in counts), sum(sensible for _, sensible in counts)


def selected(options: argparse.Namespace, peer: str = "keras", framework: peers.Peer | None = None, among: int = 1) -> list[Case]:
    """Return the cases of a peer's tables that match the command-line options.

    Args:
        options: the parsed command line.
        peer: the peer's name.
        framework: the peer's module; None takes the tables of Keras.
        among: number of peers in this run. With `--quick`, every `23 * among`-th case is kept.
    """
    cases = [case for case_table in TABLES for case in case_table.cases(peer, framework)]
    if options.quick:
        cases = cases[:: 23 * among]
    cases = [case for case in cases if fnmatch(case.name, f"*{options.case}*") and options.dtype in (None, case.problem.dtype)]
    return [replace(case, problem=problem(case, options.seed, options.backend)) for case in cases]


def problem(case: Case, seed: int, backend: str) -> Problem:
    """Return a case's problem with another seed and another backend."""
    original = case.problem
    # A case's own seed is the number of its row, far below 1000, so that other seeds give other numbers to every case.
    return replace(original, seed=original.seed + 1000 * seed, layer=ours.with_backend(original.layer, backend))


def with_peers(options: argparse.Namespace) -> list[Case]:
    """Return the cases of the requested peer or, for "all", of every peer that can be imported.

    Raises:
        ValueError: there is no such peer.
        parity.peers.MissingPeerError: the requested peer cannot be imported, or no peer can.
    """
    peer_modules = {}
    for name in peers.names() if options.peer == "all" else [options.peer]:
        try:
            peer_modules[name] = peers.load(name)
        except peers.MissingPeerError as error:
            print(f"parity: {error}", file=sys.stderr)
    if not peer_modules:
        raise peers.MissingPeerError("there is no peer to compare with")
    return [case for name, framework in peer_modules.items() for case in selected(options, name, framework, len(peer_modules))]


def show(outcomes: Iterable[report.Outcome], total: int) -> list[report.Outcome]:
    """Print one line per outcome as it arrives, with a progress bar, and return the outcomes as a list."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    colors = {"pass": None, "incomplete": "yellow", "peer-bug": "yellow", "fail": "bold red"}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    printed = []
    console.print(report.HEAD)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("parity", total=total)
        for outcome in outcomes:
            console.print(report.line(outcome), style=colors[outcome.comparison.verdict])
            if diagnosis_text := report.diagnosis(outcome):
                console.print(diagnosis_text)
            printed.append(outcome)
            progress.advance(task)
    return printed


if __name__ == "__main__":
    sys.exit(main())
