"""Statements about a model file as a whole: verdict, assumptions, and what was not compared."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import jax

from parity.model.formats import WHOLE, ModelFile
from parity.model.leftovers import listed
from parity.report import Outcome, versions

_SHOWN = 20  # names of what is incomplete, on the terminal


def verdict(file: ModelFile, outcomes: Sequence[Outcome]) -> str:
    """Return `fail` if a layer differs, `incomplete` if a recurrent part was not compared, else `pass`."""
    verdicts = {outcome.comparison.verdict for outcome in outcomes}
    if verdicts - {"pass", "incomplete"}:
        return "fail"
    return "incomplete" if file.incomplete or "incomplete" in verdicts else "pass"


def facts(file: ModelFile, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what the HTML page and the JSON report say about the file."""
    return {
        "name": file.path.name,
        "verdict": verdict(file, outcomes),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "truth": file.truth,
        "jlstm": metadata.version("jlstm"),
        "incomplete": dict(file.incomplete),
        "assumed": list(file.assumed),
        "not_compared": list(_not_compared(file, outcomes)),
    }


def summary(file: ModelFile, outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the last lines: incomplete parts, assumptions, arrays that were not compared, the verdict, and versions."""
    shown = list(file.incomplete.items())[:_SHOWN]
    lines = [f"incomplete: {name}: {why}" for name, why in shown]
    if len(file.incomplete) > len(shown):
        lines.append(f"incomplete: {len(file.incomplete) - len(shown)} more")
    lines += [f"assumed: {sentence}" for sentence in file.assumed]
    if not_compared := _not_compared(file, outcomes):
        lines.append(f"not compared: {listed(not_compared)}")
    used = ", ".join((f"jlstm {metadata.version('jlstm')}", f"jax {jax.__version__}", *versions(outcomes).values()))
    return "\n".join([*lines, _sentence(file, outcomes, seconds), f"The truth was {file.truth}. {used}."])


def _not_compared(file: ModelFile, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the names of the arrays that were not compared. The comparison of the whole model covers all of them."""
    return () if any(outcome.case.name == WHOLE for outcome in outcomes) else file.not_compared


def _sentence(file: ModelFile, outcomes: Sequence[Outcome], seconds: float) -> str:
    file_verdict, count = verdict(file, outcomes), len(file.layers)
    layers = "1 layer" if count == 1 else f"{count} layers"
    endings = {
        "pass": "is the same here and there",
        "fail": "was compared, and something differs",
        "incomplete": "was compared, but not all that is recurrent in the file",
    }
    ending = endings[file_verdict] if count == 1 else endings[file_verdict].replace("is the", "are the").replace("was", "were", 1)
    return f"{file_verdict}: {layers} of {file.path.name} {ending} ({len(outcomes)} comparisons in {seconds:.0f} s)."
