"""Grouping of the tensors of a PyTorch model by recurrent module, according to their names."""

import re
from collections.abc import Iterable

CLASS_ASSUMPTION = "the file names no classes: modules with weights of the names and shapes of torch.nn's are taken to be those"
# The tensors of an LSTM, GRU or RNN, and of one of their cells.
_WEIGHT = re.compile(r"(weight_(ih|hh|hr)|bias_(ih|hh))(_l\d+(_reverse)?)?")
# Any tensor that marks a module as recurrent, including parametrized and quantized weights.
_RECURRENT = re.compile(r"(^|\.)(parametrizations\.)?((weight|bias)_(ih|hh|hr)|_all_weight_values)[^.]*")
# Tensors from which a weight is computed, as by parametrize, weight_norm, spectral_norm or prune of torch.nn.utils.
_REPARAMETRIZED = re.compile(r"(module\.)?(parametrizations\.|(weight|bias)_.*_(g|v|u|orig|mask|raw)$)")


def scopes(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of the tensors of each module that has recurrent weights of its own, by the module's prefix.

    All names that begin with the prefix belong to the module, including those of its children. For "encoder.rnn.weight_hh_l0",
    "encoder.rnn." is a scope, and "encoder." is not.

    Examples:
        >>> scopes(["embed.weight", "rnn.weight_hh", "rnn.norm.weight"])
        {'rnn.': ['rnn.weight_hh', 'rnn.norm.weight']}
    """
    # Two passes: a module's other tensors may stand before its recurrent weights.
    names = list(names)
    names_by_prefix: dict[str, list[str]] = {}
    for name in names:
        if match := _RECURRENT.search(name):
            names_by_prefix[name[: match.start()] + match[1]] = []
    for name in names:
        for end in range(len(name)):
            if (end == 0 or name[end - 1] == ".") and name[:end] in names_by_prefix:
                names_by_prefix[name[:end]].append(name)
    return names_by_prefix


def outermost(prefix: str, prefixes: Iterable[str]) -> str | None:
    """Return the prefix of the outermost scope around a scope, or None if there is none."""
    return min((outer for outer in prefixes if prefix != outer and prefix.startswith(outer)), key=len, default=None)


def foreign_tensors(names: Iterable[str]) -> str:
    """Return a message on tensors that are not weights of an LSTM, a GRU or an RNN, with a remedy; "" if there are none.

    Examples:
        >>> foreign_tensors(["weight_ih", "weight_hh", "norm.weight"])
        "it also has 'norm.weight', which these layers do not have: pass only the weights to load if the rest changes no result"
    """
    foreign = [name for name in names if not _WEIGHT.fullmatch(name)]
    if not foreign:
        return ""
    listed = ", ".join(repr(name[:40]) for name in foreign[:3])
    listed += f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
    if any(name.startswith("_all_weight_values") for name in foreign):
        return f"it is quantized ({listed}): read the model from before quantization"
    if any(_REPARAMETRIZED.match(name) for name in foreign):
        return (
            f"its weights are computed from others ({listed}): make them plain first, with remove_parametrizations, "
            "remove_weight_norm or prune.remove of PyTorch, say"
        )
    return f"it also has {listed}, which these layers do not have: pass only the weights to load if the rest changes no result"
