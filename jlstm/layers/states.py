"""The function `cell_states`: the carries after all steps."""

from jaxtyping import Array, Bool, Float, Int

from jlstm._src import checks
from jlstm._src.arguments import answered
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
    dropout_masks: PyTree = None,
) -> tuple[PyTree, PyTree]:
    """Return the last carry and the carries after all steps.

    Args:
        layer: the layer to run. All other arguments are those of `Layer.apply`, with the same meaning.

    Returns:
        The last carry, and a tree of the same structure whose leaves have a time axis at the place where `xs` has it. The leaves
        are zero at steps that do not count.

    Raises:
        TypeError: `layer` is not a Layer.
        ValueError: as `Layer.apply` does.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, states = jlstm.cell_states(layer, params, jax.numpy.ones((2, 5, 3)))
        >>> states.c.shape
        (2, 5, 4)
    """
    checks.instance("layer", layer, Layer, "LSTM(units)")
    results = layer.checked_run(params, xs, carry, lengths, mask, resets, key, dropout_masks, states=True)
    return results.carry, results.states
