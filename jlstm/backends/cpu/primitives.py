"""Two JAX primitives, a run of the LSTM and its tangent map, with rules for every transformation.

`run_p` maps inputs to outputs. Its tangent map is the primitive `linear_p`, which is linear in its last operands. The transpose
of the tangent map is `linear_p` with `transposed=True`. So forward and reverse mode work in any order. On the CPU the native
kernel computes the run and the transposed map. All else, including derivatives of derivatives, is computed by `reference`.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from jlstm.backends.cpu import kernel, reference
from jlstm.backends.cpu.folding import fold
from jlstm.backends.cpu.operands import OF_CHANGE, OF_INPUTS, OF_KEPT, OF_OUTPUTS, Axes, Inputs, Kept, Outputs

run_p, linear_p = Primitive("jlstm_run"), Primitive("jlstm_linear")
run_p.multiple_results = linear_p.multiple_results = True
INPUTS, GIVEN, ALL = len(Inputs._fields), len(Inputs._fields) + 1 + len(Kept._fields), (True,) * 6


def run(inputs: Inputs, *, reverse: bool) -> Outputs:
    """Run the plain LSTM over time."""
    return Outputs(*_bind(run_p, *inputs, keep=False, reverse=reverse))


def _bind(primitive: Primitive, *operands: Array, **options: Any) -> list[Array]:
    return primitive.bind(*operands, **options, devices=kernel.DEVICES)


def _linear(given: Sequence[Array], change: Sequence[Array], **options: Any) -> list[Array]:
    return _bind(linear_p, *given, *map(ad.instantiate_zeros, change), **options)


# --- what the primitives compute, in JAX ---


def _run(*operands: Array, keep: bool, reverse: bool) -> list[Array]:
    return list(reference.forward(Inputs(*operands), keep=keep, reverse=reverse))


def _map(*operands: Array, transposed: bool, wanted: tuple[bool, ...], reverse: bool) -> list[Array]:
    """Return the tangent map or, with `transposed`, its transpose, of which only the results that are wanted."""
    inputs, ys, kept, change = _parts(operands)
    if not transposed:
        return list(reference.tangent(inputs, ys, kept, change, reverse=reverse))
    results = reference.transposed(inputs, ys, kept, Outputs(*change), reverse=reverse)
    return [result for result, is_wanted in zip(results, wanted, strict=True) if is_wanted]


def _parts(operands: Sequence[Array]) -> tuple[Inputs, Array, Kept, Sequence[Array]]:
    return Inputs(*operands[:INPUTS]), operands[INPUTS], Kept(*operands[INPUTS + 1 : GIVEN]), operands[GIVEN:]


# --- how the CPU computes them ---


def _native_run(*operands: Array, keep: bool, reverse: bool) -> list[Array]:
    return list(kernel.forward(Inputs(*operands), keep=keep, reverse=reverse))


def _native_map(*operands: Array, transposed: bool, wanted: tuple[bool, ...], reverse: bool) -> list[Array]:
    if not transposed:
        return _map(*operands, transposed=transposed, wanted=wanted, reverse=reverse)
    inputs, ys, kept, change = _parts(operands)
    gradients = {"of_inputs": wanted[0], "of_weights": any(wanted[1:4])}  # the costly matmuls, left out if not wanted
    results = kernel.transposed(inputs, ys, kept, Outputs(*change), reverse=reverse, **gradients)
    return [result for result, is_wanted in zip(results, wanted, strict=True) if is_wanted]


# --- derivatives ---


def _jvp_of_run(primals: Sequence[Array], tangents: Sequence[Any], *, keep: bool, reverse: bool) -> tuple[Any, Any]:
    ys, h, c, *kept = out = _bind(run_p, *primals, keep=True, reverse=reverse)
    if keep:  # the derivative of a derivative: what is kept has a tangent too, which only the reference computes
        return out, _jvp(partial(_run, keep=keep, reverse=reverse), primals, tangents)
    options = {"transposed": False, "wanted": ALL, "reverse": reverse}
    return [ys, h, c], _linear((*primals, ys, *kept), tangents[:6], **options)


def _jvp_of_map(primals: Sequence[Array], tangents: Sequence[Any], **options: Any) -> tuple[Any, Any]:
    constants, change = primals[:GIVEN], primals[GIVEN:]
    out = _linear(constants, tangents[GIVEN:], **options)
    if any(type(tangent) is not ad.Zero for tangent in tangents[:GIVEN]):  # the map itself changes: a second derivative
        by_constants = _jvp(lambda *given: _map(*given, *change, **options), constants, tangents[:GIVEN])
        out = [by_change + by_constant for by_change, by_constant in zip(out, by_constants, strict=True)]
    return _bind(linear_p, *primals, **options), out


def _jvp(function: Callable[..., list[Array]], primals: Sequence[Array], tangents: Sequence[Any]) -> list[Array]:
    return jax.jvp(function, tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))[1]


def _transpose(results: Sequence[Any], *operands: Any, transposed: bool, wanted: tuple[bool, ...], reverse: bool) -> list[Any]:
    constants, change = operands[:GIVEN], operands[GIVEN:]
    linear = tuple(map(ad.is_undefined_primal, change))  # the operands whose cotangents JAX asks for
    if transposed:
        like = Inputs(*constants[:INPUTS]).differentiable
        cotangents = iter(results)
        # zeros stand for the results that the transposed map left out
        results = [next(cotangents) if is_wanted else jnp.zeros_like(leaf) for is_wanted, leaf in zip(wanted, like, strict=True)]
        out = iter(_linear(constants, results, transposed=False, wanted=ALL, reverse=reverse))
        return [None] * GIVEN + [leaf if is_linear else None for is_linear, leaf in zip(linear, out, strict=True)]
    out = iter(_linear(constants, results, transposed=True, wanted=linear, reverse=reverse))
    return [None] * GIVEN + [next(out) if is_linear else None for is_linear in linear]


# --- vmap ---


def _batch_run(operands: Sequence[Array], axes: Axes, *, keep: bool, reverse: bool) -> tuple[Any, Any]:
    of_results = OF_OUTPUTS + OF_KEPT * keep
    return fold(partial(_bind, run_p, keep=keep, reverse=reverse), operands, axes, OF_INPUTS, of_results)


def _batch_map(operands: Sequence[Array], axes: Axes, **options: Any) -> tuple[Any, Any]:
    of_change, of_results = OF_CHANGE, OF_OUTPUTS
    if options["transposed"]:
        of_results = tuple(at for at, is_wanted in zip(OF_CHANGE, options["wanted"], strict=True) if is_wanted)
        of_change = OF_OUTPUTS
    return fold(partial(_bind, linear_p, **options), operands, axes, (*OF_INPUTS, 1, *OF_KEPT, *of_change), of_results)


# --- registration, and lowering by platform ---


def _register(primitive: Primitive, meaning: Callable, native: Callable, jvp: Callable, batch: Callable) -> None:
    def abstract(*operands: Any, **options: Any) -> list[Any]:
        return jax.make_jaxpr(partial(meaning, **options))(*operands).out_avals

    def lower(ctx: Any, *operands: Any, **options: Any) -> Any:
        function = native if kernel.is_callable(ctx) else meaning
        return mlir.lower_fun(partial(function, **options), multiple_results=True)(ctx, *operands)

    @cache
    def compiled(**options: Any) -> Callable:
        return jax.jit(partial(_bind, primitive, **options))

    def call(*operands: Array, **options: Any) -> list[Array]:
        with jax.disable_jit(False):  # with jit disabled this would call itself without end
            return compiled(**options)(*operands)

    primitive.def_impl(_without_devices(call))
    primitive.def_abstract_eval(_without_devices(abstract))
    mlir.register_lowering(primitive, mlir.lower_fun(_without_devices(meaning), multiple_results=True))
    mlir.register_lowering(primitive, _without_devices(lower), platform="cpu")
    ad.primitive_jvps[primitive], batching.primitive_batchers[primitive] = _without_devices(jvp), _without_devices(batch)


def _without_devices(rule: Callable) -> Callable:
    def without(*operands: Any, devices: Any, **options: Any) -> Any:
        del devices
        return rule(*operands, **options)

    return without


_register(run_p, _run, _native_run, _jvp_of_run, _batch_run)
_register(linear_p, _map, _native_map, _jvp_of_map, _batch_map)
ad.primitive_transposes[linear_p] = _without_devices(_transpose)
