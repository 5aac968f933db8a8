"""The command line of `python -m benchmarks`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import ROOT, cores
from benchmarks.speed import frameworks, measure, page, pool, tables, weigh
from benchmarks.speed.points import POINTS, QUICK
from benchmarks.speed.report import Report

BUSY = 0.25  # load average per core above which times are unsteady
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    usage = parser()
    options = usage.parse_args(arguments)
    check(usage, options)
    command = " ".join(("python -m benchmarks", *(sys.argv[1:] if arguments is None else arguments)))
    try:
        if options.draw:
            paths = page.publish(options.draw, page.read(options.draw))
            print(f"wrote {' and '.join(map(str, paths))}")
            return 0
        if options.memory:
            return 1 if weigh_again(options).errors else 0
        reports = [page.read(path) for path in options.compare or ()]
        report = reports[1] if len(reports) == 2 else run(options, command)
        if reports:
            show([tables.comparison(reports[0], report)])
        return 1 if report.errors and len(reports) < 2 else 0
    except (ImportError, OSError, ValueError, pool.WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    usage = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure how fast this library and others run an LSTM, forwards and in training.",
    )
    add = usage.add_argument
    add("--quick", action="store_true", help=f"only {', '.join(QUICK)}, and fewer rounds: three minutes")
    add("--points", nargs="+", metavar="POINT", help=f"some of {', '.join(POINTS)}")
    peers = (
        "beside this library's own backends; these must be there, while without this option those that are missing are left out"
    )
    add("--peers", nargs="*", metavar="PEER", help=f"some of {', '.join(frameworks.PEERS | frameworks.DROP_INS)}, {peers}")
    add("--rounds", type=int, metavar="N", help=f"turns of each framework (default: {measure.FULL.rounds})")
    add("--threads", type=int, metavar="N", default=cores(), help="of each framework (default: %(default)s, one a core)")
    add("--gpu", action="store_true", help="run on the GPU what can")
    add("--out", type=Path, metavar="FILE", help="JSON (default: benchmarks/results/speed.json; with --quick results/speed.json)")
    add("--memory", action="store_true", help="measure no times, only memory, and put it into the report that is there")
    compare_help = (
        "OLD: measure, then print the times in OLD over the new ones; OLD NEW: compare the two files and measure nothing"
    )
    add("--compare", nargs="+", type=Path, metavar="OLD", help=compare_help)
    add("--draw", nargs="?", type=Path, const=RESULTS, metavar="FILE", help="make page and picture of FILE anew, and stop")
    return usage


def check(usage: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with a message if the options make no sense."""
    named = frameworks.PEERS | frameworks.DROP_INS
    for kind, chosen, names in (("point", options.points, list(POINTS)), ("peer", options.peers, list(named))):
        if unknown_names := [name for name in chosen or () if name not in names]:
            usage.error(f"there is no {kind} {unknown_names[0]!r}: choose among {', '.join(names)}")
    for name in options.peers or ():
        if not options.gpu and "cpu" not in named[name].on:
            usage.error(f"{name} runs on a GPU only: add --gpu, or leave it out")
        if options.gpu and "gpu" not in named[name].on:
            usage.error(f"{name} does not run on the GPU here: leave it out, or leave out --gpu")
    if options.rounds is not None and options.rounds < 1:
        usage.error(f"--rounds must be at least 1, got {options.rounds}")
    if not 1 <= options.threads <= cores():
        usage.error(f"--threads must be from 1 to {cores()}, the cores that this process may use, got {options.threads}")
    if options.compare and len(options.compare) > 2:
        usage.error(f"--compare takes one file or two, got {len(options.compare)}")


def run(options: argparse.Namespace, command: str) -> Report:
    """Measure, write the JSON after each job, then the page and the picture, and print the tables."""
    out = options.out or (Path("results", "speed.json") if options.quick else RESULTS)
    platform, wanted = "gpu" if options.gpu else "cpu", options.peers
    named = frameworks.PEERS | frameworks.DROP_INS
    peers = frameworks.PEERS if wanted is None else {name: framework for name, framework in named.items() if name in wanted}
    table = frameworks.OURS | peers | frameworks.NUMPY
    names = [name for name, framework in table.items() if platform in framework.on]
    plan = measure.QUICK if options.quick else measure.FULL
    plan = plan._replace(rounds=options.rounds or plan.rounds)
    points = {name: POINTS[name] for name in options.points or (QUICK if options.quick else POINTS)}
    if (load := os.getloadavg()[0]) > BUSY * cores():
        warning = "times are then unsteady, and those of frameworks whose threads wait for each other (OpenMP) far too long"
        print(f"the machine is busy, {load:.1f} processes want {cores()} cores: {warning}", flush=True)
    with pool.start(names, [*frameworks.OURS, *(wanted or ())], options.threads, gpu=options.gpu) as workers:
        report = measure.begin(command, options.threads, options.gpu, plan, workers)
        for _ in measure.run(report, points, workers, lambda words: print(words, flush=True)):
            page.write(out, report)
    if not (options.quick or options.gpu):
        weigh.run(report, points, report.frameworks, lambda words: print(words, flush=True))
    publish(out, report)
    return report


def weigh_again(options: argparse.Namespace) -> Report:
    """Measure memory at the points of a report, and replace the report's figures."""
    out = options.out or RESULTS
    report = page.read(out)
    ours = [name for name, info in report.frameworks.items() if info.ours]
    names = list(report.frameworks) if options.peers is None else [*ours, *options.peers]
    report.notes["memory"] = measure.NOTES["memory"]
    weigh.run(report, report.points, names, lambda words: print(words, flush=True))
    publish(out, report)
    return report


def publish(out: Path, report: Report) -> None:
    """Write the report with its page and picture, and print its tables. Without matplotlib there is no page."""
    page.write(out, report)
    show(tables.sheets(report))
    try:
        files = [out, *page.publish(out, report)]
    except ImportError as missing:
        files = [out]
        print(f"left out: page and picture ({missing}); --draw {out} makes them elsewhere")
    print(f"{page.where(report)}\nAll that was measured is in {' and '.join(map(str, files))}")
    for error in report.errors:
        print(f"error: {error}", file=sys.stderr)


def show(sheets: Sequence[tables.Sheet]) -> None:
    """Print tables at their full width, and without rich as Markdown."""
    try:
        from rich.console import Console
    except ImportError:
        print(*(sheet.markdown() for sheet in sheets), sep="\n\n")
        return
    console = Console(highlight=False, width=max(Console().width, 220))
    for sheet in sheets:
        console.print(sheet.terminal())
