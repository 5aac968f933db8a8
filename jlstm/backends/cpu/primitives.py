"""Two primitives, a run and its linear map, with rules for every transformation.

`run` maps inputs to outputs. Its tangent map is the primitive `linear`, linear in its last operands, and the transpose of that
map is the same primitive with `transposed=True`: forward and reverse mode in any order. On the CPU the run and the transposed map
are native; what else there is, also the derivatives of derivatives, is the reference's.
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


# --- what they mean ---


def _run(*operands: Array, keep: bool, reverse: bool) -> list[Array]:
    return list(reference.forward(Inputs(*operands), keep=keep, reverse=reverse))


def _map(*operands: Array, transposed: bool, wanted: tuple[bool, ...], reverse: bool) -> list[Array]:
    """The linear map; transposed, only those results that are wanted."""
    inputs, ys, kept, change = _parts(operands)
    if not transposed:
        return list(reference.tangent(inputs, ys, kept, change, reverse=reverse))
    results = reference.transposed(inputs, ys, kept, Outputs(*change), reverse=reverse)
    return [result for result, is_wanted in zip(results, wanted, strict=True) if is_wanted]


def _parts(operands: Sequence[Array]) -> tuple[Inputs, Array, Kept, Sequence[Array]]:
    return Inputs(*operands[:INPUTS]), operands[INPUTS], Kept(*operands[INPUTS + 1 : GIVEN]), operands[GIVEN:]


# --- how they are computed ---


def _native_run(*operands: Array, keep: bool, reverse: bool) -> list[Array]:
    return list(kernel.forward(Inputs(*operands), keep=keep, reverse=reverse))


def _native_map(*operands: Array, transposed: bool, wanted: tuple[bool, ...], reverse: bool) -> list[Array]:
    if not transposed:
        return _map(*operands, transposed=transposed, wanted=wanted, reverse=reverse)
    inputs, ys, kept, change = _parts(operands)
    which = {"of_inputs": wanted[0], "of_weights": any(wanted[1:4])}
    results = kernel.transposed(inputs, ys, kept, Outputs(*change), reverse=reverse, **which)
    return [result for result, is_wanted in zip(results, wanted, strict=True) if is_wanted]


# --- their derivatives ---


def _jvp_of_run(primals: Sequence[Array], tangents: Sequence[Any], *, keep: bool, reverse: bool) -> tuple[Any, Any]:
    ys, h, c, *kept = out = _bind(run_p, *primals, keep=True, reverse=reverse)
    if keep:  # the derivative of a derivative
        return out, _jvp(partial(_run, keep=keep, reverse=reverse), primals, tangents)
    options = {"transposed": False, "wanted": ALL, "reverse": reverse}
    return [ys, h, c], _linear((*primals, ys, *kept), tangents[:6], **options)


def _jvp_of_map(primals: Sequence[Array], tangents: Sequence[Any], **options: Any) -> tuple[Any, Any]:
    given, change = primals[:GIVEN], primals[GIVEN:]
    out = _linear(given, tangents[GIVEN:], **options)
    if any(type(tangent) is not ad.Zero for tangent in tangents[:GIVEN]):
        more = _jvp(lambda *given: _map(*given, *change, **options), given, tangents[:GIVEN])
        out = [one + other for one, other in zip(out, more, strict=True)]
    return _bind(linear_p, *primals, **options), out


def _jvp(function: Callable[..., list[Array]], primals: Sequence[Array], tangents: Sequence[Any]) -> list[Array]:
    return jax.jvp(function, tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))[1]


def _transpose(results: Sequence[Any], *operands: Any, transposed: bool, wanted: tuple[bool, ...], reverse: bool) -> list[Any]:
    given, change = operands[:GIVEN], operands[GIVEN:]
    asked = tuple(map(ad.is_undefined_primal, change))
    if transposed:
        like = Inputs(*given[:INPUTS]).differentiable
        iterator = iter(results)
        results = [next(iterator) if is_wanted else jnp.zeros_like(each) for is_wanted, each in zip(wanted, like, strict=True)]
        out = iter(_linear(given, results, transposed=False, wanted=ALL, reverse=reverse))
        return [None] * GIVEN + [each if is_asked else None for is_asked, each in zip(asked, out, strict=True)]
    out = iter(_linear(given, results, transposed=True, wanted=asked, reverse=reverse))
    return [None] * GIVEN + [next(out) if is_asked else None for is_asked in asked]


# --- over an axis more ---


def _batch_run(operands: Sequence[Array], axes: Axes, *, keep: bool, reverse: bool) -> tuple[Any, Any]:
    of_results = OF_OUTPUTS + OF_KEPT * keep
    return fold(partial(_bind, run_p, keep=keep, reverse=reverse), operands, axes, OF_INPUTS, of_results)


def _batch_map(operands: Sequence[Array], axes: Axes, **options: Any) -> tuple[Any, Any]:
    of_change, of_results = OF_CHANGE, OF_OUTPUTS
    if options["transposed"]:
        of_results = tuple(at for at, is_wanted in zip(OF_CHANGE, options["wanted"], strict=True) if is_wanted)
        of_change = OF_OUTPUTS
    return fold(partial(_bind, linear_p, **options), operands, axes, (*OF_INPUTS, 1, *OF_KEPT, *of_change), of_results)


# --- on which platform ---


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
        with jax.disable_jit(False):  # else a call without jit would come here again
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
