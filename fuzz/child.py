"""The fuzzing process: `python -m fuzz.child NAME FOLDER`, with options of libFuzzer. `python -m fuzz` starts and watches it."""

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
    """Read the inputs of a folder and those that libFuzzer makes of them, or only the file that is among the options.

    Args:
        name: name of the target.
        folder: folder of the inputs, to which libFuzzer adds those that reach new code.
        *options: options of libFuzzer, or the path of one input.
    """
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["jlstm"]):
        target = import_module("fuzz.targets").TARGETS[name]
    inputs = [folder] if all(option.startswith("-") for option in options) else []  # libFuzzer takes folders or files, not both
    checks, mutate = import_module("fuzz.check"), import_module("fuzz.mutate")
    for module in target.modules:
        _trace(import_module(module))
    memory = Path("/dev/shm")  # a file system in memory: an input's file is written and read thousands of times
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        path = Path(scratch) / f"model{target.ending}"
        # The first read imports and compiles. Its time and memory must not count for an input.
        for file in sorted(Path(folder).iterdir()):
            checks.read(target, path, file.read_bytes())
        tracemalloc.start()
        atheris.Setup(
            [sys.argv[0], *inputs, *options],
            lambda content: checks.check(target, path, content),
            custom_mutator=lambda content, max_size, seed: mutate.mutate_input(content, max_size, seed, atheris.Mutate),
        )
        atheris.Fuzz()


def _trace(module: ModuleType) -> None:
    """Trace the functions and methods of a module that is already imported, and so cannot be instrumented by its import."""
    members = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    methods = [value for cls in members if inspect.isclass(cls) for value in vars(cls).values()]
    for function in [*members, *methods]:
        if isinstance(function, FunctionType):
            atheris.instrument_func(function)


if __name__ == "__main__":
    main(*sys.argv[1:])
