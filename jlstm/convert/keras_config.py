"""What a Keras model's JSON description says about its recurrent layers: their place in the file and their options."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ACTIVATIONS = {
    **{name: name for name in ("tanh", "sigmoid", "relu", "linear", "elu", "selu", "softplus", "softsign", "silu")},
    "swish": "silu",
}
_DEPTH, _LONGEST = 64, 1024  # of models inside models, and of a layer's name with all of theirs


class Described(NamedTuple):
    """A recurrent layer: its path, by number, and its own name; its cells, by number and name, with options; how it merges."""

    path: str
    name: str
    cells: list[tuple[str, str, dict[str, Any]]]
    merge: str | None


def described(path: Path, text: str | bytes, version: str) -> list[Described]:
    """Return the recurrent layers that a description names.

    Raises:
        ValueError: it is not one, or a layer has an option that is not ours.
    """
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} has a description that is not JSON ({type(error).__name__}): save the model again") from error
    try:
        return list(_layers(model, "", "", version))
    except KeyError as error:
        raise ValueError(f"{path} has a description without {error}, which Keras writes: save the model again") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path} has a description that is not as Keras writes it ({error}): save the model again") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _layers(model: Mapping[str, Any], path: str, name: str, version: str) -> Iterator[Described]:
    if path.count("/") > _DEPTH:
        raise ValueError(f"its models are nested more than {_DEPTH} deep: read the inner one")
    used: dict[str, int] = {}
    for entry in model["config"].get("layers", []):
        own, config = entry["class_name"], entry["config"]
        below = f"{path}layers/{_numbered(own, used)}"
        full = f"{name}{config['name']}" if "name" in config else name
        if (longest := max(len(below), len(full))) > _LONGEST:
            raise ValueError(f"a layer has a name of {longest} letters with its models', expected at most {_LONGEST}: rename it")
        if own in ("LSTM", "GRU"):
            yield Described(below, full, [("", "", _options(own, config, config, version))], "concat")
        elif own == "RNN":
            cells = _cells(config, version)
            if cells:
                yield Described(below, full, cells, "concat")
        elif own == "Bidirectional":
            yield _bidirectional(below, full, config, version)
        elif "layers" in config:
            yield from _layers(entry, f"{below}/", f"{full}/", version)


def _numbered(class_name: str, used: dict[str, int]) -> str:
    """Keras' own numbering: the class in snake case, with _1, _2 … from the second on."""
    plain = re.sub(r"\W+", "", class_name)
    plain = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", plain)).lower()
    used[plain] = used.get(plain, -1) + 1
    return f"{plain}_{used[plain]}" if used[plain] else plain


def _cells(config: Mapping[str, Any], version: str) -> list[tuple[str, str, dict[str, Any]]]:
    cell = config["cell"]
    entries = cell["config"]["cells"] if cell["class_name"] == "StackedRNNCells" else [cell]
    kinds = [entry["class_name"].removesuffix("Cell") for entry in entries]
    if not set(kinds) <= {"LSTM", "GRU"}:
        return []  # other cells' layers are none of ours
    used: dict[str, int] = {}
    return [
        (_numbered(f"{kind}Cell", used), str(entry["config"]["name"]), _options(kind, entry["config"], config, version))
        for kind, entry in zip(kinds, entries, strict=True)
    ]


def _bidirectional(path: str, name: str, config: Mapping[str, Any], version: str) -> Described:
    sides = [config["layer"]] + ([] if config.get("backward_layer") is None else [config["backward_layer"]])
    kinds = {side["class_name"] for side in sides}
    if len(kinds) > 1 or not kinds <= {"LSTM", "GRU"}:
        raise ValueError(
            f"{name!r} is Bidirectional around {' and '.join(map(repr, kinds))}, expected LSTM or GRU: take it apart"
        )
    options = [_options(side["class_name"], side["config"], side["config"], version) for side in sides]
    if len(options) > 1 and options[1] != options[0] | {"reverse": not options[0]["reverse"]}:
        raise ValueError(f"{name!r} has a backward_layer with other options than its layer: take it apart")
    return Described(path, name, [("", "", options[0])], config["merge_mode"])


def _options(kind: str, config: Mapping[str, Any], loop: Mapping[str, Any], version: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        name: _activation(config, name, config[name], version) for name in ("activation", "recurrent_activation")
    }
    options |= {name: config.get(name, 0.0) for name in ("dropout", "recurrent_dropout")}
    options |= {"reverse": loop.get("go_backwards", False), "time_major": loop.get("time_major", False)}
    if kind == "LSTM":
        return options | {"forget_bias": 1.0 if config.get("unit_forget_bias", True) else None}
    return options | {"reset_after": config.get("reset_after", False)}  # Keras 2.1 had no such option


def _activation(config: Mapping[str, Any], option: str, value: Any, version: str) -> str:
    if value == "hard_sigmoid":
        return "hard_sigmoid" if version.startswith("3") else "hard_sigmoid_0.2"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ValueError(
            f"{config.get('name')!r} has {option}={str(value)[:80]!r}, which is not ours: load its weights with your own"
        )
    return ACTIVATIONS[value]
