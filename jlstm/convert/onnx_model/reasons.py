"""How a reader of ONNX files says no: one layer that cannot be converted, or a whole file."""


class UnsupportedError(ValueError):
    """Why one layer cannot be converted; the rest of the file is as good as before."""


def quoted(name: str) -> str:
    """Return a name from a file for a message: in quotes, and only the end of a long one.

    Examples:
        >>> quoted("rnn"), quoted("x" * 100)[:6]
        ("'rnn'", "'…xxxx")
    """
    return repr(name if len(name) <= 60 else f"…{name[-59:]}")
