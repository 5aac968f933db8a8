"""Call functions with one bad argument, and judge the answer: one sentence of ours, or a right result."""

import dis
import inspect
import itertools
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

ROOT = Path(__file__).parents[2]
OURS = tuple(f"{ROOT / package}/" for package in ("jlstm", "parity"))
SECONDS = 10
CALLER_FUNCTION = "loss_fn"  # our functions call it, and what it raises passes through them
NUMBERS = itertools.count()


@dataclass
class Call:
    """A function with good arguments.

    Attributes:
        function: The function under test.
        arguments: Good arguments, by name.
        accepted_kinds: For each parameter, the kinds of bad value that the function may accept, separated by commas.
        spoiled_parameters: The parameters to spoil. None means all that the signature names.
        run_good_call: Whether the call with good arguments is run. False where it takes long or needs files.
        skipped_kind: A kind of bad value that is not tried.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    accepted_kinds: Mapping[str, str] = field(default_factory=dict)
    spoiled_parameters: tuple[str, ...] | None = None
    run_good_call: bool = True
    skipped_kind: str = ""

    def parameters(self) -> dict[str, Any]:
        """Return a good value of each parameter: the argument or the default."""
        good_values = {
            name: self.arguments.get(name, parameter.default)
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and name not in ("parent", "name")
        }
        return (
            good_values
            if self.spoiled_parameters is None
            else {name: self.arguments.get(name) for name in self.spoiled_parameters}
        )


def values(good_value: Any, folder: Path) -> dict[str, Any]:
    """Return twelve kinds of bad value for a parameter."""
    directory = folder / f"directory {next(NUMBERS)}"  # a new folder each time, since a call may write there
    directory.mkdir()
    bad_values = {
        "wrong type": object(),
        "None": None,
        "empty": type(good_value)() if type(good_value) in (str, tuple, list, dict) else (),
        "NaN": float("nan"),
        "wrong shape": (good_value, good_value),
        "wrong dtype": "text" if not isinstance(good_value, str | Path) else b"bytes",
        "huge": 10**30,
        "negative": -1,
        "array": np.ones((3, 4), np.float32),
        "wrong tree": {"wrong": {"tree": 1.0}},
        "missing file": folder / f"missing {next(NUMBERS)}",
        "directory": directory,
    }
    if isinstance(good_value, np.ndarray | jax.Array) and not jax.dtypes.issubdtype(good_value.dtype, jax.dtypes.prng_key):
        array = np.asarray(good_value)
        bad_values |= {
            "empty": array[:0] if array.ndim else np.zeros(0, array.dtype),
            "NaN": np.full(array.shape, np.nan, np.float32),
            "wrong shape": array[..., None],
            "wrong dtype": array.astype(str),
            "huge": np.full(array.shape, 1e38, np.float32) if array.dtype.kind == "f" else np.full(array.shape, 2**40),
            "negative": -1 - np.abs(array.astype(np.float32)).astype(array.dtype) if array.dtype.kind in "fi" else -1,
            "array": np.ones((3, 4, 2, 5, 2), array.dtype),
        }
    return bad_values


@contextmanager
def limited(seconds: int):
    """Raise TimeoutError where a call takes longer than this."""

    def stop(*_: object) -> None:
        raise TimeoutError

    previous_handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous_handler)


def verdict(error: BaseException) -> str:
    """Return the kind of an error. It is "sentence" only if a `raise` of ours raised it, on one line that is not too long."""
    trace, by_caller = error.__traceback__, False
    while trace and trace.tb_next:
        trace = trace.tb_next
        code = trace.tb_frame.f_code
        by_caller = code.co_name == CALLER_FUNCTION or (by_caller and not code.co_filename.startswith(OURS))
    if by_caller:
        return "right"
    code = trace.tb_frame.f_code
    raised = dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS" and code.co_filename.startswith(OURS)
    if not raised or not isinstance(error, ValueError | TypeError | OSError | ImportError):
        return "raw"
    return "sentence" if "\n" not in str(error) and 0 < len(str(error)) <= 300 else "long"


def outcome_of(call: Call, name: str, kind: str, value: Any) -> tuple[str, str]:
    """Return the verdict on a call with a bad value, and the error."""
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call.function(**{**call.arguments, name: value})
    except Exception as error:  # any error: `verdict` tells clear sentences from raw errors
        return verdict(error), f"{type(error).__name__}: {str(error)[:100]!r}"
    right = kind in call.accepted_kinds.get(name, "").split(", ") or (
        call.spoiled_parameters is None and declared(call, name, kind)
    )
    return ("right" if right else "accepted"), ""


def declared(call: Call, name: str, kind: str) -> bool:
    """Return whether the signature allows such a value: None, or any number where a real one is taken."""
    parameter = inspect.signature(call.function).parameters[name]
    annotation = str(parameter.annotation)
    if kind == "None":
        return parameter.default is None or "None" in annotation
    return kind in ("huge", "negative") and annotation in ("<class 'float'>", "float | None")


def try_bad_values(label: str, call: Call, folder: Path) -> tuple[Counter[str], list[str]]:
    """Count the verdicts on all calls with one bad argument, and list the calls whose verdict is wrong."""
    counts, failures = Counter(), []
    for name, good_value in call.parameters().items():
        for kind, value in values(good_value, folder).items():
            if kind == call.skipped_kind:
                continue
            outcome, error = outcome_of(call, name, kind, value)
            counts[outcome] += 1
            if outcome not in ("sentence", "right"):
                failures.append(f"{label}({name}={kind}): {outcome} {error}")
    return counts, failures
