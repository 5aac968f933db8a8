"""The error for an ONNX layer that cannot be converted, and the quoting of names in messages."""


class UnsupportedError(ValueError):
    """The reason why one layer cannot be converted. The other layers of the file are not affected."""


def quoted(name: str) -> str:
    """Return a name from a file for a message: in quotes, and only the end of a long one.

    Examples:
        >>> quoted("rnn"), quoted("x" * 100)[:6]
        ("'rnn'", "'…xxxx")
    """
    return repr(name if len(name) <= 60 else f"…{name[-59:]}")


def operator_name(op_type: str) -> str:
    """Return the name of an operator for a message: as it is if it is an identifier, as ONNX requires, else in quotes.

    Examples:
        >>> operator_name("Gemm"), operator_name("two words")
        ('Gemm', "'two words'")
    """
    return op_type if op_type.isidentifier() and len(op_type) <= 60 else quoted(op_type)
