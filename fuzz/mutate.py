"""Mutations that random bytes seldom make: numbers of several bytes, and values in JSON."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from fuzz.targets import SEPARATOR

Mutate = Callable[[bytes, int], bytes]
# Numbers at the edges of types, and small lengths and sizes.
_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 64, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_VALUES = (*(None, True, False, 0, 1, -1, 3, 1.5, -0.0, 1e308, 10**20, 10**400), *("", "x", "\n", "LSTM", [], {}, [[]], {"": {}}))


def mutate_input(content: bytes, max_size: int, seed: int, mutate_bytes: Mutate) -> bytes:
    """Change a number, a value in JSON, or bytes: each in one of three cases.

    Args:
        content: the input.
        max_size: the largest size of the result, in bytes.
        seed: seed of the random choices.
        mutate_bytes: libFuzzer's own mutation, also used where another one does not apply or does not fit.
    """
    rng = random.Random(seed)
    kind = rng.randrange(3)
    changed = content
    if kind == 1 and len(content) > 8:
        changed = _overwrite_number(content, rng)
    elif kind == 2:
        parts = content.split(SEPARATOR)
        json_parts = [k for k, part in enumerate(parts) if part[:1] in (b"{", b"[")]
        if json_parts:
            k = rng.choice(json_parts)
            changed = SEPARATOR.join([*parts[:k], _mutate_json(parts[k], rng), *parts[k + 1 :]])
    return changed if changed != content and len(changed) <= max_size else mutate_bytes(content, max_size)


def _overwrite_number(content: bytes, rng: random.Random) -> bytes:
    """Overwrite an aligned number of 1 to 8 bytes with one of `_NUMBERS`, or with another number of the input."""
    size = rng.choice((1, 2, 4, 8))
    target = rng.randrange(len(content) // size) * size
    source = rng.randrange(len(content) // size) * size
    number = rng.choice((*(number.to_bytes(8, "little")[:size] for number in _NUMBERS), *[content[source : source + size]] * 5))
    return content[:target] + number + content[target + size :]


def _mutate_json(part: bytes, rng: random.Random) -> bytes:
    """Change one value of a JSON text; return it as it is if it is not JSON."""
    try:
        tree = json.loads(part)
    except (ValueError, RecursionError):  # an earlier mutation changed bytes in it
        return part
    return json.dumps(_change_value(tree, rng)).encode()


def _change_value(tree: Any, rng: random.Random) -> Any:
    """Replace, remove or repeat one value. A string that itself is JSON is usually changed within."""
    entries = list(_entries(tree))
    if not entries:
        return rng.choice(_VALUES)
    holder, key = rng.choice(entries)
    value, kind = holder[key], rng.randrange(5)
    if isinstance(value, str) and value[:1] in ("{", "[") and kind:
        holder[key] = _mutate_json(value.encode(), rng).decode()
    elif kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.append(value)
    elif kind == 2:
        source, source_key = rng.choice(entries)
        holder[key] = json.loads(json.dumps(source[source_key]))  # a copy: a tree that holds itself is not JSON
    else:
        holder[key] = rng.choice(_VALUES)
    return tree


def _entries(tree: Any) -> Sequence[tuple[Any, Any]]:
    """Return a pair of container and key for every value in a tree."""
    pending, entries = [tree], []
    while pending:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            entries.append((node, key))
            pending.append(node[key])
    return entries
