"""Run the examples as scripts, and import them."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from compilation import FAST

EXAMPLES = Path(__file__).parents[2] / "examples"


def imported(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Import a module of the examples, as a script in their folder does."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(name)


def run(script: Path, *arguments: str, cwd: Path, setup: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run a script in a new process, as `python script` does, after the code in `setup`."""
    lines = (
        "import runpy, sys",
        "sys.path.insert(0, sys.argv[1])",
        "del sys.argv[:2]",
        setup,
        "runpy.run_path(sys.argv[0], run_name='__main__')",
    )
    command = [sys.executable, "-c", "\n".join(lines), str(EXAMPLES), str(script), *arguments]
    inherited = {name: value for name, value in os.environ.items() if name not in ("JLSTM_DATA", "FORCE_COLOR")}
    environ = inherited | {"XLA_FLAGS": " ".join(FAST)} | environment
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)


def is_picture(path: Path) -> bool:
    """Return whether the file is a PNG picture that is not empty."""
    content = path.read_bytes()
    return content.startswith(b"\x89PNG") and len(content) > 20_000
