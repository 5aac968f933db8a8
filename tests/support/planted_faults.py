"""Faults planted in Keras, its inputs or its results. They share no code with the diagnosis.

A plant takes a problem and its values, and returns the results of a port that has the fault.
"""

from dataclasses import replace
from functools import cache

import jax
import numpy as np

import jlstm
from jlstm import LSTM
from parity import Problem, peers
from parity.values import draw

UNITS = 4


@cache
def small_problem(layer=None, **options):
    return Problem(layer or LSTM(UNITS), **({"dtype": "float64", "batch": 2, "time": 6, "features": 3} | options))


@cache
def right(problem):
    """Return the results of Keras without a fault."""
    return keras(problem, draw(problem))


def keras(problem, values):
    return dict(peers.load("keras").run(problem, values))


def with_values(**changes):
    """Return a plant that runs Keras on changed values."""

    def plant(problem, values):
        return keras(problem, values._replace(**{name: change(getattr(values, name)) for name, change in changes.items()}))

    return plant


def with_layer(layer):
    """Return a plant that runs the Keras layer with other options."""
    return lambda problem, values: keras(replace(problem, layer=layer), values)


def with_results(**changes):
    """Return a plant that changes some of the right results."""
    return lambda problem, values: (
        right(problem)
        | {name: changes[name.split(".")[0]](value) for name, value in right(problem).items() if name.split(".")[0] in changes}
    )


def params(change, path=()):
    """Return a plant that changes the parameters of the cell at `path`, or of all cells without a path."""

    def change_at(tree, subpath):
        if isinstance(tree, dict) and "kernel" in tree:
            return tree if subpath else change(tree)
        if isinstance(tree, dict):
            return {k: change_at(v, subpath[1:]) if not subpath or k == subpath[0] else v for k, v in tree.items()}
        return tuple(change_at(v, subpath[1:]) if not subpath or k == subpath[0] else v for k, v in enumerate(tree))

    return with_values(params=lambda tree: change_at(tree, path))


def gates(letters, param_names=("kernel", "recurrent_kernel", "bias")):
    """Return a change that puts the gates' columns in the order of `letters`, while the reader expects i, f, g, o."""
    columns = ["ifgo".index(letter) for letter in letters]

    def change(cell_params):
        blocks = {name: value.reshape(*value.shape[:-1], 4, -1) for name, value in cell_params.items()}
        return cell_params | {name: blocks[name][..., columns, :].reshape(cell_params[name].shape) for name in param_names}

    return change


def bias(**amounts):
    """Return a change that adds numbers to the biases of gates."""
    added = np.repeat([amounts.get(letter, 0.0) for letter in "ifgo"], UNITS)
    return lambda cell_params: cell_params | {"bias": cell_params["bias"] + added}


def scaled_bias(factor):
    return lambda cell_params: cell_params | {"bias": factor * cell_params["bias"]}


def blocks_transposed(name):
    def change(cell_params):
        blocks = [cell_params[name][:, k * UNITS : (k + 1) * UNITS].T for k in range(4)]
        return cell_params | {name: np.hstack(blocks)}

    return change


def combined(*changes):
    def change(cell_params):
        for modify in changes:
            cell_params = modify(cell_params)
        return cell_params

    return change


def in_dtype(dtype):
    """Return a plant that runs Keras in a lower precision."""
    return lambda problem, values: keras(replace(problem, dtype=dtype), values)


def along_batch(problem, values):
    """Run Keras on inputs whose batch and time axes are swapped."""
    d_carry = jlstm.LSTMCarry(*np.ones((2, problem.time, UNITS)))
    results = keras(problem, values._replace(xs=values.xs.swapaxes(0, 1), d_ys=values.d_ys.swapaxes(0, 1), d_carry=d_carry))
    return {"ys": results["ys"].swapaxes(0, 1)}


def forget_bias_alone(problem, values):
    """Run Keras with a bias where the layer has none."""
    with_bias = values._replace(params=values.params | {"bias": np.repeat([0.0, 1, 0, 0], UNITS)})
    results = keras(small_problem(LSTM(UNITS)), with_bias)
    return {"ys": results["ys"]}


def outputs_held(problem, values):
    """Run Keras without our handling of masks: it repeats the last output at masked steps."""
    peers.load("keras")
    import keras as framework
    import tensorflow as tf

    layer = framework.layers.LSTM(
        problem.layer.cell.units, return_sequences=True, dtype="float64", go_backwards=problem.layer.reverse
    )
    layer.build(values.xs.shape)
    layer.set_weights([values.params[name] for name in ("kernel", "recurrent_kernel", "bias")])
    xs, mask, *state = map(tf.constant, (values.xs, values.mask, *values.carry))
    ys = layer(xs, mask=mask, initial_state=state).numpy()
    return {"ys": ys[:, ::-1] if problem.layer.reverse else ys}


def in_tf_keras(**options):
    """Return a plant that runs Keras 2 with other options."""

    def plant(problem, values):
        peers.load("keras")
        import tensorflow as tf
        import tf_keras

        layer = tf_keras.layers.LSTM(problem.layer.cell.units, return_sequences=True, dtype="float64", **options)
        layer.build(values.xs.shape)
        layer.set_weights([values.params[name] for name in ("kernel", "recurrent_kernel", "bias")])
        return {"ys": layer(tf.constant(values.xs), initial_state=list(map(tf.constant, values.carry))).numpy()}

    return plant


def dropping(**options):
    """Return a plant that runs Keras in training mode, with masks that it draws itself."""

    def plant(problem, values):
        peers.load("keras")
        import keras as framework

        layer = framework.layers.LSTM(problem.layer.cell.units, return_sequences=True, dtype="float64", seed=3, **options)
        layer.build(values.xs.shape)
        layer.set_weights([values.params[name] for name in ("kernel", "recurrent_kernel", "bias")])
        return {"ys": layer(values.xs, initial_state=list(values.carry), training=True).numpy()}

    return plant


def outputs_dropped(problem, values):
    """Apply dropout to the outputs."""
    keep = np.random.default_rng(0).random(right(problem)["ys"].shape) >= 0.25
    return {"ys": right(problem)["ys"] * keep / 0.75}


def anew_each_batch(problem, values):
    """Run Keras on each batch from the initial state."""
    parts = []
    for xs, d_ys in zip(np.split(values.xs, problem.batches, 1), np.split(values.d_ys, problem.batches, 1), strict=True):
        batch_problem = replace(problem, batches=1, time=xs.shape[1])
        parts.append(keras(batch_problem, values._replace(xs=xs, d_ys=d_ys)))
    return {"ys": np.concatenate([part["ys"] for part in parts], 1)} | {
        name: value for name, value in parts[-1].items() if name.startswith("carry")
    }


def step_by_step(next_carry, output="h"):
    """Return a plant that runs Keras step by step. `next_carry` makes each carry from the first one and the latest."""

    def plant(problem, values):
        carry, ys = values.carry, []
        for t in range(problem.time):
            step_values = values._replace(xs=values.xs[:, [t]], d_ys=values.d_ys[:, [t]], carry=carry)
            results = keras(replace(problem, time=1), step_values)
            after = jlstm.LSTMCarry(results["carry.h"], results["carry.c"])
            ys.append(getattr(after, output))
            carry = next_carry(values.carry, after)
        return {"ys": np.stack(ys, 1)}

    return plant


def two_directions(merge):
    """Return a plant that runs both directions in Keras and merges them by `merge`."""

    def plant(problem, values):
        sides = []
        for name, reverse in (("forward", False), ("backward", True)):
            direction_problem = small_problem(LSTM(UNITS, reverse=reverse))
            carry, direction_params = values.carry[name], values.params[name]
            sides.append(
                keras(
                    direction_problem,
                    values._replace(params=direction_params, carry=carry, d_carry=carry, d_ys=np.ones((2, 6, 4))),
                )
            )
        return {"ys": merge(sides[0]["ys"], sides[1]["ys"])}

    return plant


def perturbed(problem, values):
    """Run Keras from a carry that is off by the last bit. The weights make such a difference grow."""
    return with_values(carry=lambda carry: jax.tree.map(lambda leaf: leaf * (1 + 2**-52), carry))(problem, values)


def carry_swapped(carry):
    return jlstm.LSTMCarry(carry.c, carry.h)


def last_carry_swapped(problem, values):
    results = right(problem)
    return results | {"carry.h": results["carry.c"], "carry.c": results["carry.h"]}
