"""generate: a language model goes on where a prompt ends."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jlstm import checks
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
    """Draw the tokens that follow: each from softmax(logits / temperature), and read by the model before the next is drawn.

    Args:
        model: a language model.
        params: its parameters.
        key: what is drawn depends on.
        prompt: what the model reads first, at least one token.
        length: how many tokens to draw.
        temperature: below 1 likely tokens become likelier; 0 takes the likeliest always (the first of equal ones).

    Returns:
        The tokens, without the prompt, in its dtype.

    Raises:
        ValueError: a length below 1, a prompt of another shape or without tokens, a temperature below 0 (a traced one is not
            looked at).
        TypeError: a prompt that is not whole numbers.

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
    shapes = jax.eval_shape(model.init, key, prompt)["params"]
    checks.tree("params", params, shapes, "pass model.init(key, prompt)['params']")
    if not isinstance(temperature, jax.core.Tracer) and (temperature := checks.number("temperature", temperature)) < 0:
        raise ValueError(f"temperature must be at least 0, which takes the likeliest token always, got {temperature}")

    def drawn(logits: Array, key: Array) -> Array:
        sharper = logits / jnp.where(temperature > 0, temperature, 1).astype(logits.dtype)
        token = jnp.where(temperature > 0, jax.random.categorical(key, sharper), logits.argmax(axis=-1))
        return token.astype(prompt.dtype)

    def step(state: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], Array]:
        carry, logits = state
        token = drawn(logits, key)
        logits, carry = model.apply({"params": params}, token[:, None], carry)
        return (carry, logits[:, -1]), token

    logits, carry = model.apply({"params": params}, prompt)
    _, tokens = jax.lax.scan(step, (carry, logits[:, -1]), jax.random.split(key, length))
    return tokens.T
