"""Packages beyond the core, which jlstm imports only where it uses them."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed_by(user: str, install: str) -> Iterator[None]:
    """Return a context manager. If an import in its block fails because a package is missing, the error is one sentence.

    Args:
        user: what needs the package, the subject of the sentence.
        install: what pip installs it by, such as "jlstm[train]".

    Raises:
        ImportError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package == "jlstm":  # jlstm itself is incomplete, and no extra would help
            raise
        sentence = f'{user} needs {package}, which is not installed: pip install "{install}"'
        raise ImportError(sentence, name=error.name) from error
