"""generate: sampling from a language model."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jlstm._src import checks
from jlstm.cell import Params
from jlstm.models import parts
from jlstm.models.language_model import LanguageModel


def generate(
    model: LanguageModel,
    params: Params,
    key: Array,
    prompt: Int[Array, "batch time"],
    length: int,
    temperature: float | Float[Array, ""] = 1.0,
) -> Int[Array, "batch length"]:
    """Sample tokens that continue a prompt.

    Each token is drawn from softmax(logits / temperature) and is the model's next input.

    Args:
        model: A language model.
        params: Parameters of the model.
        key: Random key.
        prompt: Tokens that the model reads first, at least one per row.
        length: Number of tokens to draw.
        temperature: Values below 1 favor likely tokens. 0 always takes the likeliest token, the first one of equals.

    Returns:
        The drawn tokens, without the prompt, in the dtype of the prompt.

    Raises:
        ValueError: `length` is below 1, `prompt` has the wrong shape, no tokens or a token outside the vocabulary, or
            `temperature` is below 0. A traced temperature is not checked.
        TypeError: `prompt` has no integer dtype.

    Examples:
        >>> import jax
        >>> from functools import partial
        >>> from jlstm.models import LanguageModel, generate
        >>> model, prompt = LanguageModel(vocabulary=50, units=8), jax.numpy.array([[3, 1, 4], [2, 7, 1]])
        >>> params = model.init(jax.random.key(0), prompt)["params"]
        >>> draw = jax.jit(partial(generate, model, length=20))  # compiled once, then fast
        >>> draw(params, jax.random.key(1), prompt, temperature=0.7).shape
        (2, 20)
    """
    checks.instance("model", model, LanguageModel, "LanguageModel(vocabulary, units)")
    checks.key("key", key)
    prompt, length = parts.tokens("prompt", prompt, model.vocabulary, least=1), checks.positive("length", length)
    checks.tree("params", params, parts.param_shapes(model), "pass model.init(key, prompt)['params']")
    if not isinstance(temperature, jax.core.Tracer) and (temperature := checks.number("temperature", temperature)) < 0:
        raise ValueError(f"temperature must be at least 0, which takes the likeliest token always, got {temperature}")

    def drawn(logits: Array, key: Array) -> Array:
        # `temperature` may be traced: both branches are computed, and the inner `where` keeps 0 from dividing.
        scaled = logits / jnp.where(temperature > 0, temperature, 1).astype(logits.dtype)
        token = jnp.where(temperature > 0, jax.random.categorical(key, scaled), logits.argmax(axis=-1))
        return token.astype(prompt.dtype)

    def step(state: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], Array]:
        carry, logits = state
        token = drawn(logits, key)
        logits, carry = model.apply({"params": params}, token[:, None], carry)
        return (carry, logits[:, -1]), token

    logits, carry = model.apply({"params": params}, prompt)
    _, tokens = jax.lax.scan(step, (carry, logits[:, -1]), jax.random.split(key, length))
    return tokens.T  # the scan stacked (length, batch)
