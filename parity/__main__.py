"""Run the table: `python -m parity`, or check a model: `python -m parity model.keras`.

Exit status 0: all the same; 1: not, or not all that is recurrent in a file was compared; 2: wrong usage, a file that cannot be
read, or a missing peer.
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
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jlstm.backends import BACKENDS
from parity import family, junit, model, page, peers, report, table
from parity.backends import on
from parity.case import Problem
from parity.pool import run
from parity.table import DTYPES, Case

TABLES: tuple[Any, ...] = (table, family)  # each with named_rows, coverage and cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases that the command line asks for, print a line for each, and return the exit status."""
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
    jobs = options.jobs or min(os.cpu_count() or 1, 4, 1 + len(cases) // 10)
    outcomes = show(run(cases, jobs, fast=not (options.quick or options.optimized)), len(cases))
    held = coverage(cases)
    seconds = time.monotonic() - started
    print(report.summary(outcomes, held, seconds))
    write_files(options, outcomes, held, seconds)
    return 0 if report.accepted(outcomes) else 1


def of_model(options: argparse.Namespace) -> int:
    """Check a model's recurrent layers, and return the exit status."""
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
        same = model.verdict(file, outcomes) == "pass"
        if options.save and same:
            for name, written in model.save(options.save, file.layers).items():
                print(f"{name or 'the layer'}: written to {written}")
    except (ValueError, ImportError, OSError) as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    if options.save and not same:
        print(f"nothing is written to --save: the verdict is {model.verdict(file, outcomes)}", file=sys.stderr)
    return 0 if same else 1


def assignment(text: str) -> tuple[str, Any]:
    """The name and value that an option of the reader is set to: "forget_bias=0".

    Raises:
        ValueError: there is no name.
    """
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise ValueError(f"--option must be NAME=VALUE, such as forget_bias=0, got {text[:80]!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word


def write_files(
    options: argparse.Namespace,
    outcomes: list[report.Outcome],
    held: tuple[int, int] | None,
    seconds: float,
    file: dict[str, Any] | None = None,
) -> None:
    """Write the files that the command line asks for."""
    if options.json:
        report.write_json(options.json, outcomes, held, file)
    if options.html:
        page.write_html(options.html, report.contents(outcomes, held, file))
    if options.junit:
        junit.write_junit(options.junit, outcomes, seconds, file)


def parser() -> argparse.ArgumentParser:
    """The command line."""
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
    add("--quick", action="store_true", help="every seventh case, of several peers fewer of each")
    add("--optimized", action="store_true", help="let XLA optimize all it can, as with --quick: three times as long")
    add("--jobs", type=int, metavar="N", help="processes (default: one a core, up to 4, where there is work for them)")
    add("--json", metavar="FILE", help="write all that was measured to this file")
    add("--html", metavar="FILE", help="write a page to look at to this file")
    add("--junit", metavar="FILE", help="write JUnit's XML, for systems that read it, to this file")
    add("--list", action="store_true", help="name the cases and stop")
    return usage


def coverage(cases: Iterable[Case]) -> tuple[int, int]:
    """How many of the pairs of options that make sense the cases hold, and how many there are, of all their peers together."""
    names: dict[str, set[str]] = {}
    for case in cases:
        names.setdefault(case.peer, set()).add(case.name)
    each = []
    for peer, chosen in names.items():
        framework = peers.load(peer)
        for one in TABLES:
            rows = [row for name, row in one.named_rows(framework).items() if name in chosen]
            each.append(one.coverage(rows, framework))
    return sum(held for held, _ in each), sum(sensible for _, sensible in each)


def selected(options: argparse.Namespace, peer: str = "keras", framework: ModuleType | None = None, among: int = 1) -> list[Case]:
    """The cases of a peer's table that the options ask for; quickly, fewer of each where it is one among several."""
    cases = [case for one in TABLES for case in one.cases(peer, framework)]
    if options.quick:
        cases = cases[:: 7 * among]
    cases = [case for case in cases if fnmatch(case.name, f"*{options.case}*") and options.dtype in (None, case.problem.dtype)]
    return [replace(case, problem=problem(case, options.seed, options.backend)) for case in cases]


def problem(case: Case, seed: int, backend: str) -> Problem:
    """A case's problem, with other random numbers and on another backend."""
    given = case.problem
    return replace(given, seed=given.seed + 1000 * seed, layer=on(backend, given.layer))


def with_peers(options: argparse.Namespace) -> list[Case]:
    """The cases of the peer asked for or, for "all", of each that can be imported.

    Raises:
        ValueError: there is no such peer.
        parity.peers.MissingPeerError: the peer asked for cannot be imported, or none can.
    """
    present = {}
    for name in peers.names() if options.peer == "all" else [options.peer]:
        try:
            present[name] = peers.load(name)
        except peers.MissingPeerError as error:
            print(f"parity: {error}", file=sys.stderr)
    if not present:
        raise peers.MissingPeerError("there is no peer to compare with")
    return [case for name, framework in present.items() for case in selected(options, name, framework, len(present))]


def show(outcomes: Iterable[report.Outcome], total: int) -> list[report.Outcome]:
    """Print a line for each outcome as it comes, and a bar that says how far it is."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    colours = {"pass": None, "incomplete": "yellow", "peer-bug": "yellow", "fail": "bold red"}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = []
    console.print(report.HEAD)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("parity", total=total)
        for outcome in outcomes:
            console.print(report.line(outcome), style=colours[outcome.comparison.verdict])
            if why := report.diagnosis(outcome):
                console.print(why)
            shown.append(outcome)
            progress.advance(task)
    return shown


if __name__ == "__main__":
    sys.exit(main())
