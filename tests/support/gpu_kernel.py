"""A GPU that is not there: what the backend `gpu` asks of it, and its kernel written in JAX from the contract of the handlers."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax

from jlstm.backends import gpu
from jlstm.backends.gpu.plan import Gpu, Plan

H200 = Gpu(capability=(9, 0), multiprocessors=132, shared_bytes=232448)
WORKSPACE = 384  # bytes
PADDING = 16  # units


def pretend(patch, refused=()):
    """Let the backend `gpu` believe that JAX computes on a GPU.

    Args:
        patch: a MonkeyPatch.
        refused: the directions, "forward" or "backward", that have no plan.
    """

    def plan(direction, cell_name, units, batch, gpu):
        if direction in refused:
            return f"{units} units are too many"
        macros = {"SHARE": str(units)}
        sizes = {"blocks": -(-batch // 2), "threads": 128, "cluster": 1, "rows": batch, "shared_bytes": 1024, "counters": 4}
        return Plan(**sizes, cooperative=True, workspace_bytes=WORKSPACE, macros=macros)

    patch.setattr(jax, "default_backend", lambda: "gpu")
    patch.setattr(gpu.library, "obstacle", lambda: "")
    patch.setattr(gpu.library, "gpu", lambda: H200)
    patch.setattr(gpu.kernel.plan, "plan", plan, raising=False)
    patch.setattr(gpu.kernel.compiler, "kernel", lambda name, direction, *_: Path("kernels", f"{name}-{direction}.cubin"))
    gpu.kernel._compiled.cache_clear()
    jax.clear_caches()


def call(target, shapes, operands, kernel, run, aliases=None):
    """Return what the handlers do, in the place of `kernel._call`: the recurrence, step by step, with derivatives by hand."""
    steps = {"jlstm_gpu_forward": forward, "jlstm_gpu_backward": backward}[target]
    results = steps(gpu.kernel.attributes(run.cell, reverse=run.reverse), *operands)[: len(shapes)]
    assert [result.shape for result in results] == list(map(tuple, shapes))
    return results


def forward(options, zs, recurrent, peepholes, h0, c0, mask, resets):
    """Return ys, h, c, gates, c before each step, and h before each step if there is a mask or resets."""
    time, batch, units = *zs.shape[:2], h0.shape[1]
    counts, starts = _flags(mask, resets, time, batch)

    def step(carry, inputs):
        z, counts, starts = inputs
        h, c = (jnp.where(starts & counts, 0, leaf) for leaf in carry)
        gates, new_h, new_c = _step(options["cell"], _split(z, units) + _split(h @ recurrent, units), h, c, peepholes)
        new_carry = jnp.where(counts, new_h, carry[0]), jnp.where(counts, new_c, carry[1])
        meaningless = jnp.where(counts[:, :, None], gates, jnp.nan)  # where the step does not count
        return new_carry, (jnp.where(counts, new_h, 0), _join(meaningless), _pad(c), h)

    (h, c), (ys, gates, cs, hs) = lax.scan(step, (h0, c0), (zs, counts, starts), reverse=options["reverse"])
    cs = cs if c0.size else zs[:, :, :0]
    return [ys, h, c, gates, cs, *([hs] if mask.size or resets.size else [])]


def backward(options, recurrent, peepholes, h0, mask, resets, hs, gates, cs, dys, dh, dc):
    """Return dz in the memory of the gates, the gradients of the peepholes by sequence, and those of the initial carry."""
    (time, batch, units), reverse = hs.shape, options["reverse"]
    counts, starts = _flags(mask, resets, time, batch)
    if not (mask.size or resets.size):  # hs is ys
        hs = jnp.concatenate([hs[1:], h0[None]] if reverse else [h0[None], hs[:-1]])

    def step(carry, inputs):
        gates, c, h, dy, counts, starts = inputs
        dh, dc = carry
        gates = jnp.where(counts[:, :, None], _split(gates, units), 0)  # without meaning where the step does not count
        dz, dp, by_h, by_c = _differentiate(options["cell"], gates, h, c[:, : dc.shape[1]], dh + dy, dc, peepholes)
        dz = jnp.where(counts[:, :, None], dz, 0)
        by_h = by_h + jnp.concatenate(list(jnp.moveaxis(dz, 1, 0)), axis=-1) @ recurrent.T
        new_dh, new_dc = (jnp.where(starts, 0, leaf) for leaf in (by_h, by_c))
        new_carry = jnp.where(counts, new_dh, dh), jnp.where(counts, new_dc, dc)
        return new_carry, (_join(dz), jnp.where(counts[:, :, None], dp, 0))

    (dh0, dc0), (dzs, dps) = lax.scan(step, (dh, dc), (gates, cs, hs, dys, counts, starts), reverse=not reverse)
    return [dzs, dps.sum(0) if peepholes.size else jnp.zeros((0, 0, 0)), dh0, dc0]


def _step(cell, z, h, c, peepholes):
    if cell == "gru":
        update, reset, a, b = jnp.moveaxis(z, 1, 0)
        update, reset = jax.nn.sigmoid(update), jax.nn.sigmoid(reset)
        g = jnp.tanh(a + reset * b)
        return jnp.stack([update, reset, g, b], axis=1), update * h + (1 - update) * g, c
    i, f, g, o = jnp.moveaxis(z, 1, 0)
    p = [row[None] for row in peepholes] if peepholes.size else [0, 0, 0]
    i, f, g = jax.nn.sigmoid(i + p[0] * c), jax.nn.sigmoid(f + p[1] * c), jnp.tanh(g)
    new_c = f * c + i * g
    o = jax.nn.sigmoid(o + p[2] * new_c)
    return jnp.stack([i, f, g, o], axis=1), o * jnp.tanh(new_c), new_c


def _differentiate(cell, gates, h, c, dh, dc, peepholes):
    """Return dz, the gradients of the peepholes, and those of h and c before the step, without the part by the kernel."""
    if cell == "gru":
        z, r, g, b = jnp.moveaxis(gates, 1, 0)
        da = dh * (1 - z) * (1 - g * g)
        return jnp.stack([dh * (h - g) * z * (1 - z), da * b * r * (1 - r), da, da * r], axis=1), 0, dh * z, dc
    i, f, g, o = jnp.moveaxis(gates, 1, 0)
    p = [row[None] for row in peepholes] if peepholes.size else [0, 0, 0]
    new_c = f * c + i * g
    y = jnp.tanh(new_c)
    dz_o = dh * y * o * (1 - o)
    dc = dc + dh * o * (1 - y * y) + dz_o * p[2]
    dz_i, dz_f = dc * g * i * (1 - i), dc * c * f * (1 - f)
    dz = jnp.stack([dz_i, dz_f, dc * i * (1 - g * g), dz_o], axis=1)
    dp = jnp.stack([dz_i * c, dz_f * c, dz_o * new_c], axis=1) if peepholes.size else 0
    return dz, dp, jnp.zeros_like(dh), dc * f + dz_i * p[0] + dz_f * p[1]


def _flags(mask, resets, time, batch):
    """Return, with an axis for units, at which steps a sequence counts and at which it starts anew."""
    counts = mask if mask.size else jnp.ones((time, batch), bool)
    starts = resets if resets.size else jnp.zeros((time, batch), bool)
    return counts[:, :, None], starts[:, :, None]


def _split(columns, units):
    """Return (batch, 4, units) from columns with or without padding."""
    return columns.reshape(len(columns), 4, -1)[:, :, :units]


def _join(gates):
    """Return (batch, 4 · padded units) from (batch, 4, units)."""
    return _pad(gates).reshape(len(gates), -1)


def _pad(values):
    return jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % PADDING)])
