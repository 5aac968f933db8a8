"""The frameworks that `jlstm` is compared with: one file per framework, found by listing this folder.

`Peer` lists the functions of such a file. Code that several peers share is in files whose names begin with an underscore.
"""

import importlib
import os
import pkgutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any, Protocol, runtime_checkable

from jlstm._src import checks
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values


@runtime_checkable
class Peer(Protocol):
    """The functions that the module of a peer defines. Importing the module imports its framework.

    It may also define `NOT_GIVEN`, the beginnings of the names of the quantities that `run` does not compute.
    """

    def __hash__(self) -> int:
        """Return a hash: the tables of cases are cached by peer."""

    def version(self) -> str:
        """Return the framework's name and version."""

    def lacks(self, problem: Problem) -> str:
        """Return why the framework cannot run a problem; "" if it can."""

    def known_bug(self, problem: Problem) -> str:
        """Return what the framework is known to get wrong in a problem, with a link; "" if nothing."""

    def run(self, problem: Problem, values: Values) -> Quantities:
        """Compute all quantities of a problem. Its values are float64 and representable in the problem's dtype."""


class MissingPeerError(ImportError):
    """A requested peer cannot be imported."""


def names() -> list[str]:
    """Return the names of all peers, installed or not."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> Peer:
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
            module: Any = importlib.import_module(f"parity.peers.{name}")
            return module
    except ImportError as error:
        extra = "parity" if (error.name or "").split(".")[0] in ("tensorflow", "keras", "tf_keras", "flax") else "peers"
        remedy = f': pip install "jlstm[{extra}]"' if isinstance(error, ModuleNotFoundError) else ""
        raise MissingPeerError(f"peer {name!r} cannot be imported ({error}){remedy}") from error


def version(name: str) -> str:
    """Return a framework's version: as the peer states it, or of the installed package if there is no such peer."""
    try:
        return load(name).version()
    except ValueError:  # no peer, but a model's framework
        return f"{name} {metadata.version(name)}"


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
