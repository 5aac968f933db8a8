"""Changes that bytes alone seldom make: numbers in their fields, and values in JSON."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from fuzz.targets import SEPARATOR

Mutate = Callable[[bytes, int], bytes]
_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 64, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_VALUES = (*(None, True, False, 0, 1, -1, 3, 1.5, -0.0, 1e308, 10**20, 10**400), *("", "x", "\n", "LSTM", [], {}, [[]], {"": {}}))


def mutated(given: bytes, most: int, seed: int, mutate: Mutate) -> bytes:
    """Change an input by bytes, one in three times; else by a number or by a value."""
    chance = random.Random(seed)
    way = chance.randrange(3)
    changed = given
    if way == 1 and len(given) > 8:
        changed = _number(given, chance)
    elif way == 2:
        parts = given.split(SEPARATOR)
        described = [k for k, part in enumerate(parts) if part[:1] in (b"{", b"[")]
        if described:
            k = chance.choice(described)
            changed = SEPARATOR.join([*parts[:k], _described(parts[k], chance), *parts[k + 1 :]])
    return changed if changed != given and len(changed) <= most else mutate(given, most)


def _number(given: bytes, chance: random.Random) -> bytes:
    """Write a number of 1 to 8 bytes, one that matters at edges or one that is elsewhere in the file, somewhere in its place."""
    size = chance.choice((1, 2, 4, 8))
    at = chance.randrange(len(given) // size) * size
    other = chance.randrange(len(given) // size) * size
    number = chance.choice((*(number.to_bytes(8, "little")[:size] for number in _NUMBERS), *[given[other : other + size]] * 5))
    return given[:at] + number + given[at + size :]


def _described(part: bytes, chance: random.Random) -> bytes:
    try:
        tree = json.loads(part)
    except (ValueError, RecursionError):  # bytes were changed in it before
        return part
    return json.dumps(_changed(tree, chance)).encode()


def _changed(tree: Any, chance: random.Random) -> Any:
    """Change one value, or leave one out or put one twice; text that is JSON itself is changed within."""
    places = list(_places(tree))
    if not places:
        return chance.choice(_VALUES)
    holder, key = chance.choice(places)
    value, way = holder[key], chance.randrange(5)
    if isinstance(value, str) and value[:1] in ("{", "[") and way:
        holder[key] = _described(value.encode(), chance).decode()
    elif way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, list):
        holder.append(value)
    elif way == 2:
        other, where = chance.choice(places)
        holder[key] = json.loads(json.dumps(other[where]))
    else:
        holder[key] = chance.choice(_VALUES)
    return tree


def _places(tree: Any) -> Sequence[tuple[Any, Any]]:
    waiting, found = [tree], []
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found
