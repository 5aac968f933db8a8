"""Activations with their derivatives, and what all cells share: clips, gates and dropout masks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)), without overflow."""
    return np.exp(-np.logaddexp(0, -z))


ACTIVATIONS: dict[str, tuple[Function, Function]] = {  # each with its derivative
    # np.where computes both branches, so the minimum keeps exp from overflow where its branch is not taken.
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: np.exp(np.minimum(z, 0))),
    "hard_sigmoid": (lambda z: np.clip(z / 6 + 0.5, 0, 1), lambda z: (np.abs(z) < 3) / 6),
    "hard_sigmoid_0.2": (lambda z: np.clip(0.2 * z + 0.5, 0, 1), lambda z: (np.abs(z) < 2.5) * 0.2),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), lambda z: (np.abs(z) < 1) * 1.0),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    # σ(-z) is 1 - σ(z) without the cancellation at large z; likewise 1 / cosh² for 1 - tanh² below.
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * sigmoid(-z))),
    "softplus": (lambda z: np.logaddexp(0, z), sigmoid),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
}


def activations(*names: Any) -> list[tuple[Function, Function]]:
    """Return each named activation with its derivative.

    Raises:
        ValueError: a name is unknown.
    """
    unknown = [name for name in names if name not in ACTIVATIONS]
    if unknown:
        raise ValueError(f"the textbook does not know the activation {unknown[0]!r}, but {', '.join(ACTIVATIONS)}")
    return [ACTIVATIONS[name] for name in names]


def all_known(names: Iterable[Any]) -> bool:
    """Whether all names are known activations."""
    return {str(name) for name in names} <= ACTIVATIONS.keys()


def cut(z: np.ndarray, bound: float | None) -> tuple[np.ndarray, Any]:
    """Return z clipped to ±bound, and the derivative: 1 up to the bound itself, 0 outside."""
    return (z, 1.0) if bound is None else (np.clip(z, -bound, bound), (np.abs(z) <= bound) * 1.0)


def by_gate(array: np.ndarray, names: str) -> dict[str, np.ndarray]:
    """Split the last axis of an array into the columns of each gate."""
    blocks = array.reshape(*array.shape[:-1], len(names), -1)
    return {name: blocks[..., k, :] for k, name in enumerate(names)}


def masks(dropout_masks: Mapping[str, np.ndarray], name: str, names: str, like: np.ndarray) -> dict[str, np.ndarray]:
    """Return the dropout mask of each gate. All gates may share one mask; without dropout the masks are ones.

    Args:
        dropout_masks: the masks (1 or number of gates, batch, size) by name.
        name: which of them: "inputs" or "recurrent".
        names: the gates, one letter each.
        like: an array with the shape and dtype of a single mask.
    """
    return dict(
        zip(names, np.broadcast_to(dropout_masks.get(name, np.ones(1, like.dtype)), (len(names), *like.shape)), strict=True)
    )
