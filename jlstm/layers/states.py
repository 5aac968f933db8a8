"""cell_states: the carries of all steps."""

from jaxtyping import Array, Bool, Float, Int

from jlstm import checks
from jlstm.arguments import answered
from jlstm.cell import Params, PyTree
from jlstm.layers.layer import Layer


@answered("cell_states")
def cell_states(
    layer: Layer,
    params: Params,
    xs: Float[Array, "*batch time features"],
    carry: PyTree | None = None,
    *,
    lengths: Int[Array, "*batch"] | None = None,
    mask: Bool[Array, "*batch time"] | None = None,
    resets: Bool[Array, "*batch time"] | None = None,
    key: Array | None = None,
    noise: PyTree = None,
) -> tuple[PyTree, PyTree]:
    """Run like `layer.apply`, with the same arguments, and return the last carry and the carries after all steps.

    Returns:
        The last carry, and a tree like it whose leaves have a time axis where `xs` has it; zero where a step does not count.

    Raises:
        TypeError: `layer` is no Layer.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, states = jlstm.cell_states(layer, params, jax.numpy.ones((2, 5, 3)))
        >>> states.c.shape
        (2, 5, 4)
    """
    checks.instance("layer", layer, Layer, "LSTM(units)")
    results = layer.checked_run(params, xs, carry, lengths, mask, resets, key, noise, states=True)
    return results.carry, results.states
