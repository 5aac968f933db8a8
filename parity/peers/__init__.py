"""The other side: one framework a file, found by listing this folder.

A peer has `run(problem, values) -> quantities` and `version() -> str`, takes and gives NumPy, and imports its framework when
it is itself imported. It may have:

- `lacks(problem) -> str`: why it cannot be asked for a problem, "" if it can; without this it has all that the table asks for.
- `known_bug(problem) -> str`: what it is known to get wrong there, with a link, "" if nothing.
- `NOT_GIVEN`: with what the names of the quantities begin that its `run` leaves out.
"""

import importlib
import os
import pkgutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any

from jlstm import checks


class MissingPeerError(ImportError):
    """A peer that was asked for by name cannot be imported."""


def names() -> list[str]:
    """All peers that there are files for."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Import a peer by name.

    Raises:
        ValueError: there is no such peer.
        MissingPeerError: its framework is not installed or not usable.
    """
    if not isinstance(name, str) or name not in names():
        raise ValueError(f"there is no peer {checks.brief(name)}: choose among {', '.join(names())}")
    try:
        with _quiet_unless_it_fails():
            return importlib.import_module(f"parity.peers.{name}")
    except ImportError as error:
        extra = "parity" if (error.name or "").split(".")[0] in ("tensorflow", "keras", "tf_keras") else "peers"
        remedy = f": pip install 'jlstm[{extra}]'" if isinstance(error, ModuleNotFoundError) else ""
        raise MissingPeerError(f"peer {name!r} cannot be imported ({error}){remedy}") from error


def version(name: str) -> str:
    """The version of a framework that was compared with: a peer's own words, or those of the installed package."""
    try:
        return load(name).version()
    except ValueError:  # no peer, but a model's framework
        return f"{name} {metadata.version(name)}"


def lacks(peer: ModuleType, problem: Any) -> str:
    """Why a peer cannot be asked for a problem; "" if it can."""
    return peer.lacks(problem) if hasattr(peer, "lacks") else ""


@contextmanager
def _quiet_unless_it_fails() -> Iterator[None]:
    """Hold back what native code writes to stderr, TensorFlow's start-up notes, which no setting of its own silences."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except ImportError:  # its message says what is missing
            raise
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
