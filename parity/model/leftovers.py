"""Finds the arrays of a file that no compared layer uses, and those among them that look recurrent.

The names come from the framework's own reading of the file, not from the converter.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from parity.measure import Comparison

# names of single weights of a recurrent cell: PyTorch's, Keras's, TensorFlow 1's, and those that people give their own
_WEIGHT = re.compile(
    r"(weight|bias)_(hh|ih|hr)|recurrent_(kernel|bias)|w_[ifo]_diag|peep|zoneout|(?<![a-z])gates/|(?<![a-z])candidate"
    r"|(?<![a-z])(input|forget|output|cell|reset|update)_?gate|(^|[./_])(hh|ih|hx|xh|h2h|i2h|x2h|w_?hh|w_?ih|[wub]_[ifgoczrnh])([./_:]|\d|$)",
    re.IGNORECASE,
)
# names of whole modules or scopes: lstm, encoder_gru, BiLSTM, rnn_cell_1, lstm_2
_MODULE = re.compile(
    r"(.*_)?(bi|conv|peephole|layernorm|ln|my|custom|stacked|cudnn_?|basic_?|block_?)*"
    r"(lstm|gru|rnn|sru|mgu|elman|recurrent|cells?)(_?(cell|layer|block|net|d)s?)*(_?\d+d?)*",
    re.IGNORECASE,
)
_CELL_PART = re.compile(r"norm|(^|[._/])ln|diag", re.IGNORECASE)  # what belongs to a cell, if it is in the module of one
_MOST_NAMES = 4  # names in a sentence


CompareWhole = Callable[[Sequence[int] | None], Comparison | None]


class Contents(NamedTuple):
    """What a file holds besides the compared layers.

    Args:
        incomplete: what looks recurrent and was not compared: the reason, in one sentence, by layer or name.
        not_compared: names of everything else, such as an embedding.
        assumed: one sentence for each thing that the file does not state.
        compare_whole: compares the whole model for given lengths of sequences; None if that is not possible.
    """

    incomplete: dict[str, str]
    not_compared: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    compare_whole: CompareWhole | None = None


def sort_out(
    arrays: Iterable[str], used: Mapping[str, Collection[str]], assumed: Iterable[str] = (), *, scoped: bool = True
) -> Contents:
    """Sort the arrays that no compared layer uses into those that look recurrent and all others.

    Args:
        arrays: names of all arrays of the file, with parts separated by "." or "/".
        used: for each compared layer, by name, the arrays that its original uses.
        assumed: as in `Contents`.
        scoped: whether a layer's arrays begin with its name; then any other array in that scope belongs to the layer too.
    """
    used_arrays = set().union(*used.values())
    leftover = [name for name in arrays if name not in used_arrays]
    scopes = {layer: [name for name in leftover if inside(name, layer)] for layer in (used if scoped else ())}
    incomplete = {
        layer: f"{listed(names)} of {layer or 'the module'!r} {'was' if len(names) == 1 else 'were'} not compared"
        for layer, names in scopes.items()
        if names
    }
    in_scopes = set().union(*scopes.values())
    recurrent = [name for name in leftover if name not in in_scopes and looks_recurrent(name, used)]
    if recurrent:
        incomplete["the file"] = f"{listed(recurrent)}, which may be a recurrent layer's, belong to no layer that was compared"
    not_compared = tuple(name for name in leftover if name not in in_scopes and name not in recurrent)
    return Contents(incomplete, not_compared, tuple(assumed))


def inside(name: str, scope: str) -> bool:
    """Whether a name begins with `scope` and a separator. Every name is inside an empty scope."""
    return not scope or (name.startswith(scope) and name[len(scope) : len(scope) + 1] in (".", "/"))


def listed(names: Collection[str]) -> str:
    """Return names for a sentence: the first few and the number of the rest."""
    shown = ", ".join(list(names)[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def looks_recurrent(name: str, layers: Collection[str]) -> bool:
    """Whether an array's name looks like a recurrent layer's weight outside the compared layers."""
    if _WEIGHT.search(name):
        return True
    parts = re.split(r"([./])", name)
    # Separators are at the odd places. The last part names the array itself and no module.
    for k in range(0, len(parts) - 1, 2):
        if _MODULE.fullmatch(parts[k]):
            scope = "".join(parts[: k + 1])
            # beside a compared layer in a module of such a name, an output layer is harmless, a normalization is not
            if not any(inside(layer, scope) for layer in layers) or _CELL_PART.search("".join(parts[k + 1 :])):
                return True
    return False
