"""Two JAX primitives, a run of a cell and its tangent map, with rules for every transformation.

`run_p` maps inputs to outputs. Its tangent map is the primitive `linear_p`. The first operands of `linear_p` are constants: the
inputs, outputs and residuals of the run. It is linear in the last operands, the tangents. The transpose of the tangent map is
`linear_p` with `transposed=True`, and the transpose of that is the tangent map again. So forward and reverse mode work in any
order.

On a platform with a native kernel, the kernel computes the run and the transposed map; `register` says which platform has which.
`reference` computes all else, including derivatives of derivatives.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial, wraps
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from jlstm.backends.native import reference
from jlstm.backends.native.folding import fold
from jlstm.backends.native.operands import Axes, Inputs, Outputs, Run, default_precision
from jlstm.backends.native.partition import DEVICES, is_callable
from jlstm.cells.base import RecurrentCell

run_p, linear_p = Primitive("jlstm_run"), Primitive("jlstm_linear")
run_p.multiple_results = linear_p.multiple_results = True


class Kernel(Protocol):
    """The functions of a native kernel, which is a module."""

    def obstacle(self) -> str:
        """Return why this process cannot call the kernel, or "". The first call makes it ready."""

    def forward(self, run: Run, inputs: Inputs, *, keep: bool) -> list[Array]:
        """Run a cell. Return the fields of `Outputs` and, with `keep`, the residuals, see `operands.residual_shapes`."""

    def transposed(self, run: Run, operands: Sequence[Array], *, needs_dxs: bool, needs_dweights: bool) -> list[Array]:
        """Return the gradients of the leaves of `Inputs.differentiable`.

        Those that are not needed may have any values and, as the matmuls that compute them are left out, that of xs any shape.

        Args:
            run: the run.
            operands: its inputs, the outputs of all steps, h before each step, its gates and c, and the gradients of its
                outputs. Without a mask and resets h before each step is not stored, and the outputs take its place.
            needs_dxs: whether the gradient of xs is needed.
            needs_dweights: whether those of the weights are.
        """


def run(inputs: Inputs, cell: RecurrentCell, *, reverse: bool) -> Outputs:
    """Run a cell over all time steps by the native kernel of the platform, and return the outputs and the last carry."""
    constant = Run(cell, tuple(sorted(inputs.params)), reverse, default_precision())
    return constant.outputs(_bind(run_p, *constant.flat(inputs), keep=False, run=constant))


def _bind(primitive: Primitive, *operands: Array, **options: Any) -> list[Array]:
    return primitive.bind(*operands, **options, devices=DEVICES)  # see `partition._devices`


def _bind_linear(constants: Sequence[Array], tangents: Sequence[Array], **options: Any) -> list[Array]:
    return _bind(linear_p, *constants, *map(ad.instantiate_zeros, tangents), **options)


def _at_precision(function: Callable[..., list[Array]]) -> Callable[..., list[Array]]:
    """Let XLA's products in a function have the precision of its argument `run`."""

    @wraps(function)
    def call(*operands: Any, run: Run, **options: Any) -> list[Array]:
        with jax.default_matmul_precision(run.precision):
            return function(*operands, run=run, **options)

    return call


# --- the primitives in JAX ---


@_at_precision
def _run(*operands: Array, keep: bool, run: Run) -> list[Array]:
    return reference.forward(run, run.inputs(operands), keep=keep)


@_at_precision
def _linear_map(*operands: Array, transposed: bool, wanted: tuple[bool, ...], run: Run) -> list[Array]:
    """Apply the tangent map or, with `transposed`, its transpose.

    Args:
        operands: the constants, and then the tangents or, with `transposed`, the cotangents.
        transposed: whether to apply the transpose.
        wanted: for each leaf of `Inputs.differentiable`, whether the transpose returns its gradient.
        run: the run.
    """
    inputs, tangents = run.inputs(operands), operands[_constant_count(run) :]
    if not transposed:
        return reference.tangent(run, inputs, tangents)
    results = reference.transposed(run, inputs, tangents)
    return [result for result, is_wanted in zip(results, wanted, strict=True) if is_wanted]


def _constant_count(run: Run) -> int:
    """Return the number of constant operands of `linear_p`: inputs, ys, and residuals."""
    return len(run.input_axes) + 1 + len(run.residual_axes)


# --- the primitives by a native kernel ---


@_at_precision
def _native_run(kernel: Kernel, *operands: Array, keep: bool, run: Run) -> list[Array]:
    return kernel.forward(run, run.inputs(operands), keep=keep)


@_at_precision
def _native_linear_map(kernel: Kernel, *operands: Array, transposed: bool, wanted: tuple[bool, ...], run: Run) -> list[Array]:
    if not transposed:
        return _linear_map(*operands, transposed=transposed, wanted=wanted, run=run)
    inputs, count = run.inputs(operands), len(run.input_axes)
    ys, gates, cs, hs, *cotangents = operands[count:]
    # Without a mask and resets the h before a step is the previous output.
    kernel_operands = (*operands[:count], ys, hs if inputs.stores_h else ys, gates, cs, *cotangents)
    # The costly matmuls, left out if not wanted.
    needs = {"needs_dxs": wanted[0], "needs_dweights": any(wanted[1 : 1 + len(run.names)])}
    results = kernel.transposed(run, kernel_operands, **needs)
    return [result for result, is_wanted in zip(results, wanted, strict=True) if is_wanted]


# --- derivatives ---


def _jvp_of_run(primals: Sequence[Array], tangents: Sequence[Any], *, keep: bool, run: Run) -> tuple[Any, Any]:
    out = _bind(run_p, *primals, keep=True, run=run)
    outputs, residuals = out[: len(run.output_axes)], out[len(run.output_axes) :]
    linear = tangents[: len(run.tangent_axes)]
    outputs_tangents = _bind_linear(
        (*primals, out[0], *residuals), linear, transposed=False, wanted=(True,) * len(linear), run=run
    )
    if not keep:
        return outputs, outputs_tangents
    # `_linear_map` does not read the residuals, which the kernel computes from the inputs: as functions of both, the results of
    # `linear_p` depend only on the inputs.
    return out, [*outputs_tangents, *map(jnp.zeros_like, residuals)]


def _jvp_of_linear(primals: Sequence[Array], tangents: Sequence[Any], **options: Any) -> tuple[Any, Any]:
    # The product rule: a map that is linear in x, L(w) x, has the tangent L(w) dx + dL(w) x.
    count = _constant_count(options["run"])
    constants, linear_operands = primals[:count], primals[count:]
    out = _bind_linear(constants, tangents[count:], **options)
    if any(type(tangent) is not ad.Zero for tangent in tangents[:count]):  # a second derivative
        second_terms = _jvp(lambda *constants: _linear_map(*constants, *linear_operands, **options), constants, tangents[:count])
        out = [first_term + second_term for first_term, second_term in zip(out, second_terms, strict=True)]
    return _bind(linear_p, *primals, **options), out


def _jvp(function: Callable[..., list[Array]], primals: Sequence[Array], tangents: Sequence[Any]) -> list[Array]:
    return jax.jvp(function, tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))[1]


def _transpose(results: Sequence[Any], *operands: Any, transposed: bool, wanted: tuple[bool, ...], run: Run) -> list[Any]:
    """Return the cotangents of the operands, for `results`, the cotangents of the results. Constants have none.

    The transpose of the tangent map is the same primitive with `transposed=True`, and the other way round.
    """
    count = _constant_count(run)
    constants, linear_operands = operands[:count], operands[count:]
    linear = tuple(map(ad.is_undefined_primal, linear_operands))  # the operands whose cotangents JAX asks for
    if transposed:
        like = run.flat(run.inputs(constants).differentiable)
        cotangents = iter(results)
        # The tangent map takes all tangents. The results that were not wanted have no cotangents, which means zero.
        results = [next(cotangents) if is_wanted else jnp.zeros_like(leaf) for is_wanted, leaf in zip(wanted, like, strict=True)]
        out = iter(_bind_linear(constants, results, transposed=False, wanted=(True,) * len(like), run=run))
        return [None] * count + [leaf if is_linear else None for is_linear, leaf in zip(linear, out, strict=True)]
    out = iter(_bind_linear(constants, results, transposed=True, wanted=linear, run=run))
    return [None] * count + [next(out) if is_linear else None for is_linear in linear]


# --- vmap ---


def _batch_run(operands: Sequence[Array], axes: Axes, *, keep: bool, run: Run) -> tuple[Any, Any]:
    result_axes = run.output_axes + run.residual_axes * keep
    return fold(partial(_bind, run_p, keep=keep, run=run), operands, axes, run.input_axes, result_axes)


def _batch_linear(operands: Sequence[Array], axes: Axes, *, run: Run, **options: Any) -> tuple[Any, Any]:
    tangent_axes, result_axes = run.tangent_axes, run.output_axes
    if options["transposed"]:
        result_axes = tuple(axis for axis, is_wanted in zip(run.tangent_axes, options["wanted"], strict=True) if is_wanted)
        tangent_axes = run.output_axes
    operand_axes = (*run.input_axes, 1, *run.residual_axes, *tangent_axes)  # 1: the batch axis of ys
    return fold(partial(_bind, linear_p, run=run, **options), operands, axes, operand_axes, result_axes)


# --- registration, and lowering by platform ---


def register(platform: str, kernel: Kernel) -> None:
    """Let a kernel compute the primitives in programs that JAX lowers for a platform, for example "cpu" or "cuda"."""
    for primitive, in_jax, native in ((run_p, _run, _native_run), (linear_p, _linear_map, _native_linear_map)):
        lower = partial(_lower, kernel, in_jax, native)
        mlir.register_lowering(primitive, _without_devices(lower), platform=platform)


def _lower(kernel: Kernel, in_jax: Callable, native: Callable, ctx: Any, *operands: Any, **options: Any) -> Any:
    # The program may have been traced for another platform, so that nobody has asked whether this kernel can be called.
    function = partial(native, kernel) if is_callable(ctx) and not kernel.obstacle() else in_jax
    return mlir.lower_fun(partial(function, **options), multiple_results=True)(ctx, *operands)


def _register(primitive: Primitive, in_jax: Callable, jvp: Callable, batch: Callable) -> None:
    """Register all rules of a primitive but the transpose and the kernels.

    Args:
        primitive: the primitive.
        in_jax: computes its results in JAX, on every platform.
        jvp: its rule for forward-mode derivatives.
        batch: its rule for `vmap`.
    """

    def abstract(*operands: Any, **options: Any) -> list[Any]:
        return jax.make_jaxpr(partial(in_jax, **options))(*operands).out_avals

    # Outside of `jit` JAX calls the implementation of a primitive. Here that is a compiled call of the same primitive.
    @cache
    def compiled(**options: Any) -> Callable:
        return jax.jit(partial(_bind, primitive, **options))

    def call(*operands: Array, **options: Any) -> list[Array]:
        with jax.disable_jit(False):  # with jit disabled this would call itself without end
            return compiled(**options)(*operands)

    primitive.def_impl(_without_devices(call))
    primitive.def_abstract_eval(_without_devices(abstract))
    mlir.register_lowering(primitive, mlir.lower_fun(_without_devices(in_jax), multiple_results=True))
    ad.primitive_jvps[primitive], batching.primitive_batchers[primitive] = _without_devices(jvp), _without_devices(batch)


def _without_devices(rule: Callable) -> Callable:
    """Return a rule that takes the parameter `devices` and drops it: only its presence matters, see `partition._devices`."""

    def without(*operands: Any, devices: Any, **options: Any) -> Any:
        del devices
        return rule(*operands, **options)

    return without


_register(run_p, _run, _jvp_of_run, _batch_run)
_register(linear_p, _linear_map, _jvp_of_linear, _batch_linear)
ad.primitive_transposes[linear_p] = _without_devices(_transpose)
