"""A graph as steps that JAX can run: each takes values by name and computes others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jlstm.convert.files import reason
from jlstm.convert.onnx_model.operators import Call, Operator
from jlstm.convert.onnx_model.reasons import UnsupportedError, operator_name, quoted


class Run(NamedTuple):
    """One run of a model.

    Attributes:
        params: the parameters of the whole model.
        key: a random key, which turns dropout on, or None.
        values: the values that are known so far, by their names in the graph that runs. NumPy arrays are constants and sizes,
            and JAX arrays all others.
    """

    params: Mapping[str, Any]
    key: Any
    values: dict[str, Any]


Compute = Callable[[Run, Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Step:
    """A node that can be run.

    Args:
        name: its full name.
        operator: the name of its operator.
        inputs: the names of the values that it takes, "" for one that is left out.
        outputs: the names of those that it computes, "" for one that is not used.
        compute: `(run, values of the inputs) -> values of the outputs`.
        also_reads: names of other values that graphs inside the node take.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compute: Compute
    also_reads: frozenset[str] = frozenset()

    @property
    def reads(self) -> set[str]:
        """The names of all values that the step needs."""
        return {*filter(None, self.inputs), *self.also_reads}


@dataclass(frozen=True)
class Graph:
    """The steps of one graph, in the order in which they run.

    Args:
        steps: the steps that the outputs need.
        outputs: the names of the outputs.
        constants: arrays of the file by name.
        params: the names of parameters by the names of the values that they are.
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """The names of all values that the steps and the outputs need, also those that the graph computes itself."""
        return frozenset(self.outputs).union(*(step.reads for step in self.steps))

    @property
    def takes(self) -> frozenset[str]:
        """The names of values that the graph needs from the graph around it."""
        computed = {name for step in self.steps for name in step.outputs}
        return self.reads - computed - self.constants.keys() - self.params.keys()

    def run(self, run: Run) -> dict[str, Any]:
        """Return all values: those of `run`, and those that the steps compute.

        Raises:
            ValueError: a node cannot be run on these values. The message names it.
        """
        # Parameters become arrays of JAX, and constants stay arrays of NumPy. So shapes that follow from constants alone are
        # known when JAX compiles.
        params = {name: jnp.asarray(run.params[key]) for name, key in self.params.items()}
        values = {**run.values, **self.constants, **params}
        run = run._replace(values=values)
        for step in self.steps:
            inputs = [values[name] if name else None for name in step.inputs]
            try:
                results = step.compute(run, inputs)
            except NodeError:  # of a graph inside this one, which has named the node
                raise
            except (ValueError, TypeError, LookupError, ArithmeticError) as error:
                raise NodeError(_complaint(step, inputs, error)) from error
            if len(results) < sum(map(bool, step.outputs)):
                raise NodeError(f"{_described(step)} has {len(step.outputs)} outputs, but only {len(results)} are computed")
            values.update({name: result for name, result in zip(step.outputs, results, strict=False) if name})
        return values


class NodeError(ValueError):
    """A node cannot be run on the values that it gets."""


def _described(step: Step) -> str:
    return f"the node {quoted(step.name)} ({operator_name(step.operator)})"


def _complaint(step: Step, inputs: Sequence[Any], error: Exception) -> str:
    """Return why a node cannot be run, and what to do."""
    if isinstance(error, UnsupportedError):
        return f"{_described(step)} cannot be run: {error}"
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError):
        return (
            f"{_described(step)} needs numbers that jit does not know: pass whole numbers that decide shapes or branches as "
            "NumPy arrays, inside of jit too"
        )
    shapes = ", ".join("none" if value is None else f"{value.dtype}{list(value.shape)}" for value in inputs)
    return f"{_described(step)} cannot be run on {shapes}: {reason(error)}"


def operator_step(operator: Operator, attributes: Mapping[str, Any], outputs: int, opset: int) -> Compute:
    """Return the function of a step that calls an operator."""

    def compute(_: Run, inputs: Sequence[Any]) -> Sequence[Any]:
        result = operator.run(Call(inputs, attributes, outputs, opset))
        # A result of NumPy may be a scalar, which is no array.
        return [value if isinstance(value, jax.Array) else np.asarray(value) for value in _listed(result)]

    return compute


def _listed(result: Any) -> Sequence[Any]:
    return result if isinstance(result, list) else [result]


def dropout_step(number: int, ratio: float) -> Compute:
    """Return the function of a Dropout node, which is off without a key.

    Args:
        number: a number that no other Dropout has, so that each draws other random numbers.
        ratio: the share of the elements that are dropped, if it is not an input of the node.
    """

    def compute(run: Run, inputs: Sequence[Any]) -> Sequence[Any]:
        x = jnp.asarray(inputs[0])
        share = inputs[1] if len(inputs) > 1 and inputs[1] is not None else ratio
        if run.key is None:
            return [x, jnp.ones(x.shape, bool)]
        mask = jax.random.bernoulli(jax.random.fold_in(run.key, number), 1 - share, x.shape)
        return [jnp.where(mask, x / (1 - share), 0).astype(x.dtype), mask]

    return compute


def needed_steps(steps: Sequence[Step], outputs: Iterable[str]) -> tuple[Step, ...]:
    """Return the steps, in order, that the outputs need."""
    needed, kept = set(outputs), list[Step]()
    for step in reversed(steps):
        if not needed.isdisjoint(step.outputs):
            kept.append(step)
            needed |= step.reads
    return tuple(reversed(kept))


def branch_step(then_branch: Graph, else_branch: Graph) -> Compute:
    """Return the function of an If node. Only the branch that is taken is run, if the condition is known when JAX compiles."""

    def results(graph: Graph, run: Run) -> list[Any]:
        values = graph.run(run)
        return [values[name] for name in graph.outputs]

    def compute(run: Run, inputs: Sequence[Any]) -> Sequence[Any]:
        condition = inputs[0].reshape(())
        if isinstance(condition, np.ndarray):
            return results(then_branch if condition else else_branch, run)
        # Both branches are traced, and must have results of the same shapes. NumPy's results become JAX's, as cond requires.
        branches = [lambda graph=graph: list(map(jnp.asarray, results(graph, run))) for graph in (then_branch, else_branch)]
        return jax.lax.cond(condition, *branches)

    return compute


def call_step(graph: Graph, arguments: Sequence[str]) -> Compute:
    """Return the function of a step that calls a function of the model.

    Args:
        graph: the body of the function.
        arguments: the names of its inputs there. The body sees no other values.
    """

    def compute(run: Run, inputs: Sequence[Any]) -> Sequence[Any]:
        # A call may leave out its last arguments.
        missing = [None] * (len(arguments) - len(inputs))
        values = graph.run(run._replace(values=dict(zip(arguments, [*inputs, *missing], strict=True))))
        return [values[name] for name in graph.outputs]

    return compute
