"""TensorFlow's checkpoints: recurrent layers by the names of their variables."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jlstm.cell import Params
from jlstm.convert import files, keras, layout, tf_index
from jlstm.convert.arrays import FLOATS
from jlstm.layers import Bidirectional, Layer

Made = tuple[Layer, Params]

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_TF1 = re.compile(
    r"(?P<base>.*?)(?P<side>/fw|/bw)?(?:/multi_rnn_cell/cell_(?P<depth>\d{1,9}))?/?(?:basic_lstm_cell|lstm_cell|gru_cell)(?:_\d+)?/"
    r"(?P<name>kernel|bias|w_[ifo]_diag|projection/kernel|(?:gates|candidate)/(?:kernel|bias))"
)
_TF2 = re.compile(rf"(?P<base>.*?)(?:/(?P<side>forward|backward)_layer)?/cell/(?P<name>kernel|recurrent_kernel|bias){_VALUE}")


def read(path: str | os.PathLike[str], of_cell: Callable[[Mapping[str, Any]], Made], options: dict[str, Any]) -> dict[str, Made]:
    """Return all recurrent layers: `of_cell` makes one of TensorFlow 1's variables, Keras' `load` one of TensorFlow 2's.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ImportError: TensorFlow is not installed.
        ValueError: it is damaged, holds no such layer, or one that does not fit.
    """
    path = Path(path)
    if not Path(f"{path}.index").is_file():
        raise FileNotFoundError(f"there is no file {path}.index: give the checkpoint's name without .index and .data-…")
    found: dict[str, dict[tuple[str, int], dict[str, np.ndarray]]] = {}
    keras_layers: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for variable, array in _variables(path).items():
        if new := _TF2.fullmatch(variable):
            keras_layers.setdefault(new["base"], {}).setdefault(new["side"] or "forward", {})[new["name"]] = array
        elif old := _TF1.fullmatch(variable):
            cells = found.setdefault(old["base"] or "rnn", {})
            cells.setdefault((old["side"] or "", int(old["depth"] or 0)), {})[old["name"]] = array
    made = {}
    for name, make in [(base, lambda cells=cells: _cells(cells, of_cell)) for base, cells in found.items()] + [
        (base, lambda sides=sides: _of_keras(sides, options)) for base, sides in keras_layers.items()
    ]:
        try:
            made[name] = make()
        except ValueError as error:
            raise ValueError(f"{path}: {name!r}: {error}") from error
    if not made:
        raise ValueError(f"{path} has no recurrent layer that is found by its name: pass its variables to load")
    return made


def _cells(cells: dict[tuple[str, int], dict[str, np.ndarray]], of_cell: Callable[[Mapping[str, Any]], Made]) -> Made:
    sides = {side: layout.stack([of_cell(cells[key]) for key in sorted(cells) if key[0] == side]) for side, _ in cells}
    if sides.keys() == {""}:
        return sides[""]
    if sides.keys() != {"/fw", "/bw"} or sides["/fw"][0] != sides["/bw"][0]:
        raise ValueError(f"two directions must be alike, got {' and '.join(sides)}: pass their variables to load one by one")
    return Bidirectional(sides["/fw"][0]), {"forward": sides["/fw"][1], "backward": sides["/bw"][1]}


def _of_keras(sides: dict[str, dict[str, np.ndarray]], options: dict[str, Any]) -> Made:
    weights = [
        side[name]
        for _, side in sorted(sides.items(), reverse=True)
        for name in ("kernel", "recurrent_kernel", "bias")
        if name in side
    ]
    return keras.load(weights, **options)


def _variables(path: Path) -> dict[str, np.ndarray]:
    """Those with a name as recurrent layers have it."""
    tf = files.needed("tensorflow", path)
    tf_index.checked(Path(f"{path}.index"))
    held = sum(data.stat().st_size for data in path.parent.glob(f"{_escaped(path.name)}.data-*"))
    try:
        reader = tf.train.load_checkpoint(str(path))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        names = sorted(name for name in shapes if _TF1.fullmatch(name) or _TF2.fullmatch(name))
        declared = sum(int(np.prod(shapes[name], dtype=object)) * dtypes[name].size for name in names)
        other = [name for name in names if dtypes[name].name not in FLOATS]  # TensorFlow ends the process where it is a reference
        arrays = {name: reader.get_tensor(name) for name in names} if declared <= held and not other else {}
    except (tf.errors.OpError, RuntimeError, TypeError, ValueError, IndexError) as error:  # as TensorFlow's statuses arrive here
        raise ValueError(f"{path} is not a whole checkpoint ({files.reason(error)}): copy all its files") from error
    if other:
        kind = dtypes[other[0]].name
        raise ValueError(f"{path} has {other[0]!r} in {kind}, expected one of {', '.join(FLOATS)}: save weights of floats")
    if declared > held:
        raise ValueError(f"{path} declares {declared} bytes and holds {held}: copy all its files")
    return arrays


def _escaped(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)
