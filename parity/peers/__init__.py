"""The frameworks that `jlstm` is compared with: one file per framework, found by listing this folder.

A peer is a module that imports its framework when it is imported. It defines `run(problem, values) -> quantities`, with NumPy
arrays in and out, and `version() -> str`. It may also define:

- `lacks(problem) -> str`: why it cannot run a problem, "" if it can. Without this function it can run the whole table.
- `known_bug(problem) -> str`: what it is known to get wrong in a problem, with a link; "" if nothing.
- `NOT_GIVEN`: prefixes of the names of the quantities that its `run` does not compute.
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
    """A requested peer cannot be imported."""


def names() -> list[str]:
    """Return the names of all peers, installed or not."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Import a peer by name.

    Args:
        name: the peer's name, see `names()`.

    Returns:
        The peer's module.

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
    """Return a framework's version: as the peer states it, or of the installed package if there is no such peer."""
    try:
        return load(name).version()
    except ValueError:  # no peer, but a model's framework
        return f"{name} {metadata.version(name)}"


def lacks(peer: ModuleType, problem: Any) -> str:
    """Return why a peer cannot run a problem; "" if it can."""
    return peer.lacks(problem) if hasattr(peer, "lacks") else ""


@contextmanager
def _quiet_unless_it_fails() -> Iterator[None]:
    """Hold back what native code writes to stderr, and write it out if the import fails unexpectedly."""
    # TensorFlow's start-up notes come from C++, past sys.stderr, and no setting silences them: redirect the descriptor.
    sys.stderr.flush()
    stderr_copy = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except ImportError:  # its message says what is missing
            raise
        except BaseException:
            captured.seek(0)
            os.write(stderr_copy, captured.read())
            raise
        finally:
            os.dup2(stderr_copy, 2)
            os.close(stderr_copy)
