"""With remat, memory of the backward pass grows with the square root of time, as the compiled program reports."""

import jax
import jax.numpy as jnp
import pytest

from jlstm import LSTM, Bidirectional

pytestmark = [pytest.mark.no_cover, pytest.mark.every_backend]

UNITS, FEATURES = 32, 1  # few features, since XLA may keep a copy of the inputs, which grows with time whatever we do


def temporary_bytes(layer, time, **sequence):
    """Return the temporary memory of the gradient of a loss that reads the last carry."""

    def loss(params, xs):
        carry, _ = layer.apply(params, xs, **sequence)
        return sum(leaf.sum() for leaf in jax.tree.leaves(carry))

    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    xs = jax.ShapeDtypeStruct((1, time, FEATURES), jnp.float32)
    return jax.jit(jax.grad(loss)).lower(params, xs).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: layer.flipped(), Bidirectional], ids=["on", "back", "both"])
def test_remat_saves_nearly_all_of_the_memory(wrap):
    """For 10,000 steps the gradient takes under a fiftieth of the memory that it takes without remat."""
    frugal, plain = (temporary_bytes(wrap(LSTM(UNITS, remat=remat)), 10_000) for remat in (True, False))
    assert frugal < plain / 50


@pytest.mark.parametrize("sequence", [{}, {"lengths": jnp.array([5])}], ids=["whole", "lengths"])
def test_memory_grows_with_the_root_of_time(sequence):
    """Four times the steps take about twice the memory with remat, and four times without."""
    frugal, plain = (
        [temporary_bytes(LSTM(UNITS, remat=remat), time, **sequence) for time in (10_000, 40_000)] for remat in (True, False)
    )
    assert 1.8 < frugal[1] / frugal[0] < 2.5
    assert plain[1] / plain[0] == pytest.approx(4, rel=0.01)
