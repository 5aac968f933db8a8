"""The figures that the examples reach, stored as the examples print them: `python -m benchmarks.figures`.

python -m benchmarks.figures                        all of them, some hours on two cores
python -m benchmarks.figures ptb-small forecast     some of them
"""

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import ROOT, Machine, machine, peak_bytes, versions
from jlstm._src import serialization

RESULTS = ROOT / "benchmarks" / "results" / "figures.json"
FIGURES = {  # name: the example and its options, as a person would type them
    "mnist": "01_mnist.py --seeds 5",
    "mnist-10-epochs": "01_mnist.py --epochs 10",
    "mnist-permuted": "01_mnist.py --permuted --epochs 3",
    "sentiment": "02_sentiment.py",
    "imdb": "03_imdb.py --seeds 5",
    "imdb-best": "03_imdb.py --best",
    "ptb-small": "04_language_model.py",
    "ptb-medium-2-epochs": "04_language_model.py --size medium --epochs 2",
    "shakespeare": "04_language_model.py --dataset shakespeare",
    "forecast": "05_forecast.py",
    "adding-100": "06_long_memory.py",
    "adding-400": "06_long_memory.py --length 400",
    "adding-1000": "06_long_memory.py --length 1000",
    "copy-100": "06_long_memory.py --task copy --epochs 50",
}


class Figure(NamedTuple):
    """What an example printed, and how it was run.

    Attributes:
        command: the command line that a person would type.
        printed: the lines of the standard output.
        errors: the standard error output.
        status: the exit status.
        seconds: wall-clock time of the process.
        most_bytes_so_far: largest peak memory among this example and those that ran before it.
        date: start of the run, UTC, in ISO format.
        load_before: load average over one minute before the start.
        commit: abbreviated commit, marked if `jlstm` or `examples` had uncommitted changes.
        machine: the machine.
        versions: versions of Python and of the packages that compute.
    """

    command: str
    printed: list[str]
    errors: str
    status: int
    seconds: float
    most_bytes_so_far: int
    date: str
    load_before: float
    commit: str
    machine: Machine
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the JSON file."""
        return self._asdict() | {"machine": self.machine._asdict()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the examples that the command line names, and write the results after each."""
    usage = argparse.ArgumentParser(prog="python -m benchmarks.figures", description="Run examples and store what they print.")
    usage.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(FIGURES)}; none means all")
    usage.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        metavar="FILE",
        help="JSON file; a Markdown file is written beside it; entries of other names stay",
    )
    options = usage.parse_args(arguments)
    if unknown := set(options.names) - set(FIGURES):
        usage.error(f"there is no {', '.join(sorted(unknown))}: choose among {', '.join(FIGURES)}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.names or FIGURES:
        figure = run(FIGURES[name], Path("results") / name)
        if figure.status:
            print(f"error: {figure.command} ended with exit status {figure.status}: {figure.errors}", file=sys.stderr)
            return 1
        # Read the file after the run, not before it: entries that another process wrote in the meantime stay.
        entries = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
        entries[name] = figure.to_json()
        entries = {entry: entries[entry] for entry in FIGURES if entry in entries}
        serialization.write(options.out, (json.dumps(entries, indent=1, ensure_ascii=False) + "\n").encode())
        serialization.write(options.out.with_suffix(".md"), page(entries).encode())
        print(f"{name}: {figure.printed[-1] if figure.printed else ''} ({figure.seconds:.0f} s)", flush=True)
    return 0


def run(example: str, out: Path) -> Figure:
    """Run an example in a new process.

    Args:
        example: file name in the folder `examples`, followed by the options.
        out: folder for the example's own results.

    Returns:
        What the example printed, when it ran, how long it took, and on what machine.
    """
    script, *options = example.split()
    load, started, date = os.getloadavg()[0], time.perf_counter(), dt.datetime.now(dt.UTC)
    commit = git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--short", "jlstm", "examples") else "")
    command = [sys.executable, str(ROOT / "examples" / script), *options, "--out", str(out)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return Figure(
        command=f"python examples/{example}",
        printed=process.stdout.splitlines(),
        errors=process.stderr.strip(),
        status=process.returncode,
        seconds=time.perf_counter() - started,
        most_bytes_so_far=peak_bytes(children=True),
        date=date.isoformat(timespec="seconds"),
        load_before=load,
        commit=commit,
        machine=machine(),
        versions=versions(),
    )


def page(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return everything that the examples printed, as Markdown.

    Args:
        entries: entries of the JSON file by name, of this run and of earlier ones.
    """
    parts = [
        "# What the examples print\n\nWritten by `python -m benchmarks.figures`; machine and versions are in the JSON file.\n"
    ]
    for name, entry in entries.items():
        origin = f"`{entry['command']}`, {entry['date'][:10]}, commit {entry['commit']}, {entry['seconds']:.0f} seconds"
        parts.append("\n".join((f"## {name}\n\n{origin}\n\n```text", *entry["printed"], "```\n")))
    return "\n".join(parts)


def git(*arguments: str) -> str:
    """Return the output of a git command in this repository."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
