"""Optax optimizers with the formulas and defaults of Keras."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jlstm._src import checks


def keras_optimizer(
    name: str,
    *,
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
    **options: Any,
) -> optax.GradientTransformation:
    r"""Return an optax optimizer with the same updates as the Keras optimizer of that name.

    Let g be the gradient after clipping, η the learning rate and ε the option `epsilon`. One step adds to a parameter:

    | name | options and Keras's defaults | update |
    |---|---|---|
    | sgd | learning_rate=0.01, momentum=0, nesterov=False | m = μ m - η g; m, or with Nesterov μ m - η g |
    | adam | learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7 | -η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε) |
    | rmsprop | learning_rate=0.001, rho=0.9, momentum=0, epsilon=1e-7, centered=False | n = μ n + η g / √(v + ε); -n |
    | adadelta | learning_rate=0.001, rho=0.95, epsilon=1e-7 | -η g √(u + ε) / √(v + ε) |

    where m and v are the running means of g and g², u is the running mean of the squared updates before η, and t counts the steps
    from 1. In sgd, m is the momentum buffer; in rmsprop it is n. μ is the option `momentum`, β₁ and β₂ are `beta_1` and `beta_2`.
    With `centered`, v is reduced by the square of the running mean of g.

    Args:
        name: "sgd", "adam", "rmsprop" or "adadelta", in upper or lower case.
        clipnorm: Largest norm of each parameter's gradient. Larger gradients are scaled down.
        clipvalue: Largest absolute value of each gradient component.
        global_clipnorm: Largest norm of all gradients together. Give at most one of the three clipping options.
        **options: Options from the table. The learning rate may also be an optax schedule, which counts steps from 0.

    Returns:
        An optax transformation, for `fit` or for a custom loop.

    Raises:
        ValueError: The name is unknown, two kinds of clipping are given, or a bound is not positive.
        TypeError: The optimizer does not have an option.

    References:
        Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980. The ε of Keras is the
        "epsilon hat" before their section 2.1.
        Tieleman & Hinton 2012, "Lecture 6.5: RMSProp", Coursera: Neural Networks for Machine Learning.
        Zeiler 2012, "ADADELTA: An Adaptive Learning Rate Method", https://arxiv.org/abs/1212.5701.

    Differs from: `optax.adam` adds ε to the root of v after dividing v by 1 - β₂ᵗ, Keras before; its default ε is 1e-8.
    `optax.rmsprop` also has ε = 1e-8. `optax.adadelta` has ρ = 0.9, ε = 1e-6 and no default learning rate.
    `optax.sgd` with a schedule also applies the new learning rate to momentum from earlier steps.
    Keras itself keeps the learning rate in float32 for every parameter dtype, and on TensorFlow also the momentum and betas.

    Examples:
        >>> import numpy as np
        >>> from jlstm.train import keras_optimizer
        >>> optimizer = keras_optimizer("adam", learning_rate=0.002, global_clipnorm=5.0)
        >>> params = {"slope": np.float32(1)}
        >>> updates, state = optimizer.update({"slope": np.float32(3)}, optimizer.init(params), params)
        >>> round(float(updates["slope"]), 6)  # the first step of Adam has the size of the learning rate
        -0.002
    """
    make = OPTIMIZERS.get(checks.text("name", name).lower())
    if make is None:
        raise ValueError(f"there is no optimizer {checks.brief(name)} here: choose among {', '.join(OPTIMIZERS)}")
    if unknown := sorted(options.keys() - signature(make).parameters.keys()):
        raise TypeError(f"{name} has no option {unknown[0]!r}: it takes {', '.join(signature(make).parameters)}, and clipping")
    bounds = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
    clippings = {kind: checks.bound(kind, value) for kind, value in bounds.items() if value is not None}
    if len(clippings) > 1:
        raise ValueError(f"{' and '.join(clippings)} are given, expected at most one kind of clipping, as in Keras")
    # Clipping comes first, on the gradient itself, as in Keras.
    return optax.chain(*(CLIPPINGS[kind](value) for kind, value in clippings.items()), make(**options))


def _sgd(learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False) -> optax.GradientTransformation:
    # The momentum comes after the learning rate, as in Keras: a schedule then does not rescale what earlier steps added.
    return optax.chain(optax.scale_by_learning_rate(learning_rate), _momentum(momentum, nesterov))


def _adam(
    learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
) -> optax.GradientTransformation:
    # Keras adds ε to √v before the bias correction, optax after it. With v̂ = v / (1 - β₂ᵗ),
    #     √(1 - β₂ᵗ) / (√v + ε) = 1 / (√v̂ + ε / √(1 - β₂ᵗ)),
    # so optax gets an ε that depends on the step. `count` is the number of steps before, t - 1.
    def corrected_epsilon(count: Array) -> Array:
        return epsilon / jnp.sqrt(1 - jnp.asarray(beta_2) ** (count + 1))

    scale = optax.inject_hyperparams(optax.scale_by_adam, static_args=("b1", "b2", "eps_root"))
    return optax.chain(scale(b1=beta_1, b2=beta_2, eps=corrected_epsilon), optax.scale_by_learning_rate(learning_rate))


def _rmsprop(
    learning_rate: Any = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-7, centered: bool = False
) -> optax.GradientTransformation:
    # Both add ε inside of the root by default, as Keras does.
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    return optax.chain(scale(rho, epsilon), optax.scale_by_learning_rate(learning_rate), _momentum(momentum))


def _adadelta(learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adadelta(rho, epsilon), optax.scale_by_learning_rate(learning_rate))


def _momentum(momentum: float, nesterov: bool = False) -> optax.GradientTransformation:
    return optax.trace(momentum, nesterov) if momentum else optax.identity()


def _clip_by_norm(bound: float) -> optax.GradientTransformation:
    """Return a transformation that scales the gradient of each parameter down to the norm `bound` if its norm is larger."""

    def clipped(gradient: Array) -> Array:
        norm = jnp.linalg.norm(gradient.ravel())
        return jnp.where(norm > bound, gradient * (bound / norm), gradient)

    return optax.stateless(lambda gradients, _: jax.tree.map(clipped, gradients))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adam": _adam,
    "rmsprop": _rmsprop,
    "adadelta": _adadelta,
}
CLIPPINGS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "clipnorm": _clip_by_norm,
    "clipvalue": optax.clip,
    "global_clipnorm": optax.clip_by_global_norm,
}
