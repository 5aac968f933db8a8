"""The figures that the examples reach, kept as they print them: `python -m benchmarks.figures`.

python -m benchmarks.figures                        all of them, some hours on two cores
python -m benchmarks.figures ptb-small forecast     some of them
"""

import argparse
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.systems.report import machine, versions
from benchmarks.systems.side import ROOT
from jlstm import io

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the examples that the command line asks for, and write the results after each."""
    usage = argparse.ArgumentParser(prog="python -m benchmarks.figures", description="Run examples and keep what they print.")
    usage.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(FIGURES)}; none means all")
    usage.add_argument(
        "--out", type=Path, default=RESULTS, metavar="FILE", help="JSON, with Markdown beside it; other names stay"
    )
    options = usage.parse_args(arguments)
    if unknown := set(options.names) - set(FIGURES):
        usage.error(f"there is no {', '.join(sorted(unknown))}: choose among {', '.join(FIGURES)}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.names or FIGURES:
        figure = run(FIGURES[name], Path("results") / name)
        if figure["status"]:
            print(f"error: {figure['command']} ended with exit status {figure['status']}: {figure['errors']}", file=sys.stderr)
            return 1
        kept_figures = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
        order = [entry for entry in FIGURES if entry in kept_figures or entry == name]
        written = {entry: figure if entry == name else kept_figures[entry] for entry in order}
        io.write(options.out, (json.dumps(written, indent=1, ensure_ascii=False) + "\n").encode())
        io.write(options.out.with_suffix(".md"), page(written).encode())
        print(f"{name}: {figure['printed'][-1] if figure['printed'] else ''} ({figure['seconds']:.0f} s)", flush=True)
    return 0


def run(example: str, out: Path) -> dict[str, Any]:
    """Run an example in a new process; return what it printed, when, how long it took, and on what machine."""
    script, *more = example.split()
    load, started, date = os.getloadavg()[0], time.perf_counter(), dt.datetime.now(dt.UTC)
    commit = git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--short", "jlstm", "examples") else "")
    command = [sys.executable, str(ROOT / "examples" / script), *more, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "command": f"python examples/{example}",
        "printed": done.stdout.splitlines(),
        "errors": done.stderr.strip(),
        "status": done.returncode,
        "seconds": time.perf_counter() - started,
        "most_bytes_so_far": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "date": date.isoformat(timespec="seconds"),
        "load_before": load,
        "commit": commit,
        "machine": machine(),
        "versions": versions(),
    }


def page(figures: dict[str, dict[str, Any]]) -> str:
    """Return everything that the examples printed, as Markdown."""
    parts = [
        "# What the examples print\n\nWritten by `python -m benchmarks.figures`; machine and versions are in the JSON file.\n"
    ]
    for name, figure in figures.items():
        ran = f"`{figure['command']}`, {figure['date'][:10]}, commit {figure['commit']}, {figure['seconds']:.0f} seconds"
        parts.append("\n".join((f"## {name}\n\n{ran}\n\n```text", *figure["printed"], "```\n")))
    return "\n".join(parts)


def git(*arguments: str) -> str:
    """Return the output of a git command in this repository."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
