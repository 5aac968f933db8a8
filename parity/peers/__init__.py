"""The other side: one framework a file, found by listing this folder.

A peer has `run(problem, values) -> quantities` and `version() -> str`, takes and gives NumPy, and imports its framework when
it is itself imported.
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
    if name not in names():
        raise ValueError(f"there is no peer {name!r}: choose among {', '.join(names())}")
    try:
        with _quiet_unless_it_fails():
            return importlib.import_module(f"parity.peers.{name}")
    except ImportError as error:
        remedy = ": pip install 'jlstm[parity]'" if isinstance(error, ModuleNotFoundError) else ""
        raise MissingPeerError(f"peer {name!r} cannot be imported ({error}){remedy}") from error


def version(name: str) -> str:
    """The version of a framework that was compared with: a peer's own words, or those of the installed package."""
    try:
        return load(name).version()
    except ValueError:  # no peer, but a model's framework
        return f"{name} {metadata.version(name)}"


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
