"""The command `python -m benchmarks.systems`.

Exit status 0: done; 1: a side failed, or the two sides do not compute the same; 2: wrong usage.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.machine import ROOT
from benchmarks.systems import report, side, tables
from benchmarks.systems.problem import Problem
from benchmarks.systems.report import Report, Run
from benchmarks.systems.system import SYSTEMS
from jlstm._src import serialization

COMMITTED = ROOT / "benchmarks" / "results" / "systems.json"
README = ROOT / "README.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, print the table, and return the exit status."""
    usage = parser()
    options = usage.parse_args(arguments)
    if options.seeds is not None and options.seeds < 1:
        usage.error(f"--seeds must be at least 1, got {options.seeds}")
    console = Console(highlight=False, soft_wrap=True)
    try:
        if options.readme:
            return write_readme()
        return compare(options, " ".join(sys.argv[1:] if arguments is None else arguments), console)
    except (OSError, ValueError, side.SideError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    usage = argparse.ArgumentParser(
        prog="python -m benchmarks.systems",
        description="Train each system by its example and by Keras on TensorFlow: same data, batches, weights and epochs.",
    )
    add = usage.add_argument
    add("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM", help=f"some of {', '.join(SYSTEMS)}")
    add("--seeds", type=int, metavar="N", help="seeds of each system (default: its own number)")
    add("--quick", action="store_true", help="a few steps of each, and three batches of the test data")
    stock = "also train Keras with its optimizers as they are"
    add("--stock", nargs="+", choices=SYSTEMS, default=[], metavar="SYSTEM", help=stock)
    add("--out", type=Path, metavar="FILE", help="JSON with all that was measured (default: results/systems.json)")
    add("--readme", action="store_true", help="write README's table from the committed results, and stop")
    add("example_options", nargs="*", metavar="-- OPTION", help="options for the examples, such as -- --epochs 2")
    return usage


def write_readme() -> int:
    """Put the table of the committed results into README.

    Raises:
        FileNotFoundError: there are no such results.
    """
    if not COMMITTED.exists():
        raise FileNotFoundError(f"there are no results to write: python -m benchmarks.systems --out {COMMITTED} makes them")
    text = tables.into(README.read_text(encoding="utf-8"), Report.of(json.loads(COMMITTED.read_text(encoding="utf-8"))))
    serialization.write(README, text.encode())
    return 0


def compare(options: argparse.Namespace, arguments: str, console: Console) -> int:
    """Run both sides of each system, write the JSON after every run, and print the table."""
    out = options.out or Path("results", "systems_quick.json" if options.quick else "systems.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    result = report.begin(f"python -m benchmarks.systems {arguments}".strip())
    for run in runs(options):
        result.runs.append(run)
        serialization.write(out, (json.dumps(result.to_json(), indent=1) + "\n").encode())
        figure = f"{run.metric} {run.result.figure:.4f}, {run.seconds_an_epoch:.1f} s an epoch"
        console.print(f"{run.system}, seed {run.seed}, {run.side}: {figure}")
    Console(highlight=False, width=max(console.width, tables.WIDTH)).print(tables.terminal(result))
    console.print(f"All that was measured is in {out}")
    return _verdict(result)


def runs(options: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of both sides for each seed and system. The side that goes first alternates, so that drift affects both."""
    for name in options.only:
        system = SYSTEMS[name]
        extra = (*(system.quick if options.quick else ()), *options.example_options)
        for seed in range(options.seeds or (1 if options.quick else system.seeds)):
            with tempfile.TemporaryDirectory() as folder:
                problem = Problem(Path(folder), name, seed, extra, 3 if options.quick else None)
                side.run("draw", problem)
                command = " ".join((system.command, *extra, "--seed", str(seed)))
                order = report.SIDES if seed % 2 == 0 else report.SIDES[::-1]
                for side_name in (*order, *([report.STOCK] if name in options.stock else [])):
                    result = side.run(side_name, problem)
                    yield Run.of(
                        result
                        | {"system": name, "title": system.title, "metric": system.metric, "seed": seed}
                        | {"side": side_name, "example": command}
                    )


def _verdict(result: Report) -> int:
    """Return 1, and print an error, if the two sides of a system did not compute the same."""
    status = 0
    for row in report.rows(result):
        if row.loss_difference is not None and row.loss_difference > report.MAX_LOSS_DIFFERENCE:
            apart = f"the losses of the first steps are {row.loss_difference:.0e} apart"
            print(f"error: {row.title}: {apart}, so the two sides are not the same training", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
