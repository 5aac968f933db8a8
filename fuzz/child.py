"""The process that fuzzes: `python -m fuzz.child NAME FOLDER`, with libFuzzer's options; `python -m fuzz` watches it."""

import inspect
import sys
import tempfile
import tracemalloc
import warnings
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import atheris


def main(name: str, folder: str, *options: str) -> None:
    """Read the inputs that a folder has and those that libFuzzer makes of them, or a file among the options, until it ends."""
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["jlstm"]):
        target = import_module("fuzz.targets").TARGETS[name]
    inputs = [folder] if all(option.startswith("-") for option in options) else []  # libFuzzer takes folders or files, not both
    checks, mutate = import_module("fuzz.check"), import_module("fuzz.mutate")
    for module in target.modules:
        _trace(import_module(module))
    memory = Path("/dev/shm")  # a file system in memory: an input's file is written and read thousands of times
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as own:
        path = Path(own) / f"model{target.ending}"
        for file in sorted(Path(folder).iterdir()):  # what is imported and compiled at the first time is not an input's
            checks.read(target, path, file.read_bytes())
        tracemalloc.start()
        atheris.Setup(
            [sys.argv[0], *inputs, *options],
            lambda given: checks.check(target, path, given),
            custom_mutator=lambda given, most, seed: mutate.mutated(given, most, seed, atheris.Mutate),
        )
        atheris.Fuzz()


def _trace(module: ModuleType) -> None:
    """Trace the functions and methods of a module that has been imported before."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    methods = [value for kind in own if inspect.isclass(kind) for value in vars(kind).values()]
    for function in [*own, *methods]:
        if isinstance(function, FunctionType):
            atheris.instrument_func(function)


if __name__ == "__main__":
    main(*sys.argv[1:])
