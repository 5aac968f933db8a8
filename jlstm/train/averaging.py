"""Averages of the parameters over training steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jlstm._src import checks
from jlstm.cell import Params, PyTree
from jlstm.train.arguments import check_optimizer


class AveragedState(NamedTuple):
    """State of `averaged`.

    Attributes:
        inner: State of the optimizer.
        average: Mean of the parameters after the steps from `start` on. Before, the last parameters.
        step: Number of steps taken.
    """

    inner: PyTree
    average: Params
    step: Int[Array, ""]


def averaged(optimizer: optax.GradientTransformation, start: int = 0) -> optax.GradientTransformation:
    """Return an optimizer that takes the same steps, and also keeps the mean of the parameters.

    With `optax.sgd` this is averaged stochastic gradient descent. The mean often predicts better than the last parameters, which
    move around the minimum if the learning rate stays constant. `averaged_params` returns the mean, also for `fit`.

    Args:
        optimizer: An optax transformation. Put this function around the whole optimizer, outside of `optax.chain`.
        start: Number of steps before the first one whose parameters enter the mean.

    Returns:
        An optax transformation. Its `update` needs the parameters.

    Raises:
        TypeError: `optimizer` is not an optax transformation.
        ValueError: `start` is below 0.

    References:
        Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging", https://doi.org/10.1137/0330046.
        For language models: Merity, Keskar & Socher 2018, https://arxiv.org/abs/1708.02182.
    Differs from: `optax.ema` averages gradients or updates, with exponential weights.

    Examples:
        >>> import jax.numpy as jnp, numpy as np, optax
        >>> from jlstm.data import Minibatches
        >>> from jlstm.train import Outcome, averaged, averaged_params, fit
        >>> data, loss_fn = np.float32([1, 3]), lambda params, x, key, carry: Outcome((params["mean"] - x) ** 2)
        >>> batches = Minibatches(data, size=1, seed=0)
        >>> optimizer = averaged(optax.sgd(0.2), start=10)
        >>> options = {"epochs": 50, "validation": batches, "evaluation_params": averaged_params}
        >>> result = fit(loss_fn, {"mean": jnp.zeros(())}, optimizer, batches, **options)
        >>> bool(abs(result.best["mean"] - 2) < 0.1)
        True
    """
    check_optimizer(optimizer)
    checks.whole("start", start)

    def init(params: Params) -> AveragedState:
        # A copy, since a training step donates both.
        return AveragedState(optimizer.init(params), jax.tree.map(jnp.copy, params), jnp.zeros((), "int32"))

    def update(gradients: Params, state: AveragedState, params: Params | None = None) -> tuple[Params, AveragedState]:
        if params is None:
            raise ValueError("averaged needs the parameters, got None: call update(gradients, state, params)")
        updates, inner = optimizer.update(gradients, state.inner, params)
        step = state.step + 1
        number = jnp.maximum(step - start, 1)  # of parameters in the mean

        def mean(average: Array, new: Array) -> Array:
            return average + (new - average) / number.astype(average.dtype)

        return updates, AveragedState(inner, jax.tree.map(mean, state.average, optax.apply_updates(params, updates)), step)

    return optax.GradientTransformation(init, update)


def averaged_params(opt_state: Any, params: Params | None = None) -> Params:  # noqa: ARG001  # optax passes both
    """Return the mean of the parameters from the state of an `averaged` optimizer.

    Args:
        opt_state: The state.
        params: The last parameters, which are not used.

    Raises:
        TypeError: `opt_state` is the state of another optimizer.
    """
    checks.instance("opt_state", opt_state, AveragedState, "averaged(optax.sgd(1)).init(params)")
    average: Params = opt_state.average
    return average
