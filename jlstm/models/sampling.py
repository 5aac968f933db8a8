"""Sampling from a language model."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jlstm.cell import Params
from jlstm.models.language_model import LanguageModel


def generate(
    model: LanguageModel,
    params: Params,
    key: Array,
    prompt: Int[Array, "batch time"],
    length: int,
    temperature: float | Float[Array, ""] = 1.0,
) -> Int[Array, "batch length"]:
    """Return `length` tokens that follow each prompt; temperature 0 takes the likeliest token always."""

    def next_token(logits: Array, key: Array) -> Array:
        sharp = logits / jnp.where(temperature > 0, temperature, 1).astype(logits.dtype)
        return jnp.where(temperature > 0, jax.random.categorical(key, sharp), jnp.argmax(logits, axis=-1)).astype(prompt.dtype)

    def step(state: Any, key: Array) -> tuple[Any, Array]:
        carry, logits = state
        token = next_token(logits, key)
        logits, carry = model.apply({"params": params}, token[:, None], carry)
        return (carry, logits[:, -1]), token

    logits, carry = model.apply({"params": params}, prompt)
    _, tokens = jax.lax.scan(step, (carry, logits[:, -1]), jax.random.split(key, length))
    return tokens.T
