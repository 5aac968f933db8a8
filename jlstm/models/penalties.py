"""activation_penalty: regularization of a language model's outputs."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm._src import checks


def activation_penalty(
    outputs: Float[Array, "batch time units"],
    dropped: Float[Array, "batch time units"],
    *,
    activation: float = 2.0,
    slowness: float = 1.0,
) -> Float[Array, "batch time"]:
    """Return a penalty on large outputs of a recurrent layer, and on outputs that change quickly.

        penalty_t = activation · mean(d_t²) + slowness · mean((h_t - h_{t-1})²)

    The means are over units. At the first step the second term is 0.

    Args:
        outputs: The outputs h of the last layer, without dropout.
        dropped: The same outputs d after dropout.
        activation: Weight of the first term.
        slowness: Weight of the second term.

    Returns:
        The penalty of each step, to be added to the cross-entropy of the step.

    Raises:
        ValueError: The arrays do not have the same shape of three axes, or a weight is below 0.

    References:
        Merity, McCann & Socher 2017, "Revisiting Activation Regularization for Language RNNs", https://arxiv.org/abs/1708.01009.
    Differs from: The authors' program takes the mean of the second term over one step less, since the first step has none.

    Examples:
        >>> import jax
        >>> from jlstm.models import LanguageModel, activation_penalty
        >>> model, tokens = LanguageModel(50, 8, dropout=0.4), jax.numpy.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
        >>> variables = model.init(jax.random.key(0), tokens)
        >>> _, state = model.apply(variables, tokens, key=jax.random.key(1), mutable="intermediates")
        >>> (outputs,), (dropped,) = state["intermediates"]["outputs"], state["intermediates"]["dropped"]
        >>> activation_penalty(outputs, dropped).shape
        (2, 5)
    """
    activation, slowness = checks.bound("activation", activation, zero=True), checks.bound("slowness", slowness, zero=True)
    outputs, dropped = checks.array("outputs", outputs), checks.array("dropped", dropped)
    if outputs.ndim != 3 or outputs.shape != dropped.shape:
        raise ValueError(
            f"outputs and dropped must have the same shape (batch, time, units), got {outputs.shape} and {dropped.shape}"
        )
    changes = jnp.diff(outputs, axis=1, prepend=outputs[:, :1])
    return activation * (dropped**2).mean(-1) + slowness * (changes**2).mean(-1)
