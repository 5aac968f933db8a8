"""The cells give the values that other projects print in their tests or compute with their cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import goldens

CASES = goldens.load()
pytestmark = [pytest.mark.no_cover, pytest.mark.skipif(not CASES, reason="JLSTM_DATA has no goldens")]


def run(golden, layers, params, xs, carries, mask, lengths):
    last = []
    for (layer, _, _), layer_params, carry in zip(layers, params, carries, strict=True):
        sequence = {} if mask is None else {"mask": mask}
        if lengths is not None:
            sequence["lengths"] = lengths
        carry, xs = layer.apply(layer_params, xs, carry, **sequence)
        last.append(carry)
    return xs, last


@pytest.mark.table(quick=8)
@pytest.mark.parametrize("golden", CASES, ids=lambda golden: golden.name)
def test_outputs_last_carry_and_gradients(golden, x64):
    """All values that the case has agree. Where it repeats the last output over padding, ours is zero."""
    a, layers = golden.arrays, golden.layers()
    mask, lengths = a.get("in/mask"), a.get("in/lengths")
    params, carries = [entry[1] for entry in layers], [entry[2] for entry in layers]
    ys, last = jax.jit(lambda *args: run(golden, layers, *args, mask, lengths))(params, a["in/x"], carries)
    close = {"rtol": golden.tolerance["rtol"], "atol": golden.tolerance["atol"]}
    if "out/y" in a:
        holds_last_output = golden.options.get("pad_output") == "hold"
        np.testing.assert_allclose(ys, np.where(mask[..., None], a["out/y"], 0) if holds_last_output else a["out/y"], **close)
    for number, carry in enumerate(last):
        for d, direction_carry in enumerate((carry["forward"], carry["backward"]) if isinstance(carry, dict) else [carry]):
            for name in "hcnm":
                if f"out/{name}_n" in a and hasattr(direction_carry, name):
                    np.testing.assert_allclose(
                        getattr(direction_carry, name), a[f"out/{name}_n"][number, d], **close, err_msg=name
                    )
    if "grad/x" in a:
        check_gradients(golden, layers, params, carries, mask, lengths)


def check_gradients(golden, layers, params, carries, mask, lengths):
    a = golden.arrays
    holds_last_output = mask is not None and golden.options.get("pad_output") == "hold"

    def loss(params, xs, carries):
        ys, (last,) = run(golden, layers, params, xs, carries, mask, lengths)
        if holds_last_output:  # in the file padding repeats the last output, or zeros before the first step
            steps = jnp.where(mask, jnp.arange(mask.shape[1]), -1)
            latest = jax.lax.cummax(steps, axis=1)
            rows = jnp.take_along_axis(ys, jnp.maximum(latest, 0)[..., None], axis=1)
            ys = jnp.where(latest[..., None] >= 0, rows, 0)
        results = [(a["ct/y"], ys)]
        results += [(a[f"ct/{name}_n"][0, 0], getattr(last, name)) for name in "hc" if f"ct/{name}_n" in a]
        return sum((cotangent * value).sum() for cotangent, value in results)

    of_params, of_xs, of_carries = jax.jit(jax.grad(loss, (0, 1, 2)))(params, a["in/x"], carries)
    close = {"rtol": golden.tolerance["grad_rtol"], "atol": golden.tolerance["grad_atol"]}
    np.testing.assert_allclose(of_xs, a["grad/x"], **close)
    expected = golden.parameters_like("grad")
    assert jax.tree.structure(of_params[0]) == jax.tree.structure(expected)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, **close), of_params[0], expected)
    for name in "hc":
        if f"grad/{name}0" in a:
            np.testing.assert_allclose(getattr(of_carries[0], name), a[f"grad/{name}0"][0, 0], **close)


def test_all_cases_are_run():
    """There are as many cases as the data folder's README says."""
    assert len(CASES) == 57
