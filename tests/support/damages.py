"""Faults of a converter: each takes the right layer and parameters of a file, and returns what a wrong converter would make."""

from dataclasses import dataclass, replace

import jax
import numpy as np

from jlstm import RNN, Bidirectional, LSTMCarry, Stack


def in_cells(change):
    """Apply a change to the cell of every layer: in all layers of a Stack and in both directions."""

    def damage(layer, params):
        if isinstance(layer, Stack):
            pairs = [damage(*pair) for pair in zip(layer.layers, params, strict=True)]
            return Stack(tuple(changed for changed, _ in pairs)), tuple(changed for _, changed in pairs)
        if isinstance(layer, Bidirectional):
            sides = {name: damage(layer.layer, params[name]) for name in ("forward", "backward")}
            return replace(layer, layer=sides["forward"][0]), {name: changed for name, (_, changed) in sides.items()}
        return change(layer, params)

    return damage


def option(**options):
    """Return the fault of a converter that sets these options of the layer itself."""
    return in_cells(lambda layer, params: (replace(layer, **options), params))


def cell_option(*removed_names, **options):
    """Return the fault of a converter that sets these options of the cells, and drops the weights that are named."""

    def change(layer, params):
        remaining_params = {name: array for name, array in params.items() if name not in removed_names}
        return replace(layer, cell=replace(layer.cell, **options)), remaining_params

    return in_cells(change)


def weights(**changes):
    """Return the fault of a converter that changes these weights. Each change takes the file's array and the number of units."""

    def change(layer, params):
        changed = {name: function(np.asarray(params[name]), layer.cell.units) for name, function in changes.items()}
        return layer, params | changed

    return in_cells(change)


def merge(kind):
    return lambda layer, params: (replace(layer, merge=kind), params)


def directions_swapped(layer, params):
    return layer, {"forward": params["backward"], "backward": params["forward"]}


def layers_swapped(layer, params):
    return Stack(layer.layers[::-1]), params[::-1]


def last_layer_lost(layer, params):
    return Stack(layer.layers[:-1]), params[:-1]


@dataclass(frozen=True, repr=False)
class Unmasked(RNN):
    """A layer that ignores padding."""

    def run(self, params, steps, *args):
        return super().run(params, steps._replace(mask=None), *args)


@dataclass(frozen=True, repr=False)
class StartsSwapped(RNN):
    """A layer that exchanges h and c of its initial carry."""

    def run(self, params, steps, carry, *args):
        return super().run(params, steps, carry and LSTMCarry(carry.c, carry.h), *args)


@dataclass(frozen=True, repr=False)
class EndsSwapped(RNN):
    """A layer that returns its last c as h."""

    def run(self, *args):
        results = super().run(*args)
        return results._replace(carry=LSTMCarry(results.carry.c, results.carry.h))


def of_class(kind):
    return in_cells(lambda layer, params: (kind(layer.cell, reverse=layer.reverse), params))


def gates_swapped(first, second):
    """Exchange the columns of two gates, which are given by their numbers."""

    def swap(array, units):
        blocks = np.split(array, array.shape[-1] // units, -1)
        blocks[first], blocks[second] = blocks[second], blocks[first]
        return np.concatenate(blocks, -1)

    return weights(**dict.fromkeys(("kernel", "recurrent_kernel", "bias"), swap))


def transposed(array, units):
    """Transpose the matrix of each gate."""
    return np.concatenate([block.T for block in np.split(array, array.shape[-1] // units, -1)], -1)


def zero(array, units):
    return np.zeros_like(array)


def halved(array, units):
    return array / 2


def forget_bias_forgotten(array, units):
    return array - np.repeat(np.array([0, 1, 0, 0], array.dtype), units)


def nudged(relative):
    """Change every weight by a relative error, in float64 so that it is not rounded away."""
    return lambda layer, params: (layer, jax.tree.map(lambda array: np.asarray(array, np.float64) * (1 + relative), params))
