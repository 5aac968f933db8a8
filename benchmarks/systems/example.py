"""Run the examples unchanged, with their functions for training and evaluation replaced, so that they can be measured."""

import dataclasses
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest import mock

import tyro

from benchmarks.systems.problem import Problem
from jlstm import train
from jlstm.data import Batch, Batches


def run(problem: Problem, fit: Callable[..., train.Result], evaluate: Callable[..., dict[str, float]]) -> None:
    """Call the example's `main` with the problem's command line.

    Args:
        problem: names the example; the folder `examples` must be on Python's path.
        fit: replaces `Options.fit`.
        evaluate: replaces `jlstm.train.evaluate`, which the example calls with its test data.
    """
    module, options = parse_options(problem)
    options.out.mkdir(parents=True, exist_ok=True)
    with mock.patch.object(shared_options(), "fit", fit), mock.patch.object(train, "evaluate", evaluate):
        module.main(options)


def parse_options(problem: Problem) -> tuple[ModuleType, Any]:
    """Return the example's module, and the options that it reads from the problem's command line."""
    module = import_module(problem.system.script)
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, shared_options())]
    (options_class,) = (cls for cls in classes if cls.__module__ == module.__name__)  # not those that it imports
    return module, tyro.cli(options_class, args=problem.arguments)


def shared_options() -> Any:
    """Return the class of options that all examples share."""
    return import_module("common.options").Options


def settings(problem: Problem) -> dict[str, Any]:
    """Return the example's options, and the row of its table that they name, if any: the settings of the Keras side."""
    module, options = parse_options(problem)
    row = module.SIZES[options.dataset, options.size]._asdict() if hasattr(module, "SIZES") else {}
    chosen = {name: value for name, value in dataclasses.asdict(options).items() if value is not None}
    return row | chosen


class FirstBatches(Batches[Any]):
    """The first `count` batches of each epoch, or all if `count` is None."""

    def __init__(self, batches: Batches[Any], count: int | None) -> None:
        self.batches, self.size = batches, batches.size
        self.count = len(batches) if count is None else min(count, len(batches))

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[Any]]:
        batches = self.batches.epoch(number, start, part)
        # `range` comes first, so that zip stops before it draws a batch that is not used.
        return (batch for _, batch in zip(range(start, self.count), batches, strict=False))
