"""Convert the docstrings of this project to reStructuredText, before napoleon reads their sections.

The docstrings are plain text: one backtick around code, indented blocks for equations, and stars and bars that mean themselves.
"""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

from api_coverage import public_names
from sphinx.application import Sphinx

SECTIONS = {
    "Args:",
    "Attributes:",
    "Returns:",
    "Raises:",
    "Yields:",
    "Examples:",
    "References:",
}
REMARK = re.compile(r"(Differs from|Reference): ?(.*)")
PROSE, CODE = "prose", "code"


def convert(lines: list[str], links: dict[str, str]) -> list[str]:
    """Return the lines of a docstring as reStructuredText, with sections in Google's style.

    Args:
        lines: the docstring without the indentation that all its lines share.
        links: by the name that docstrings use, the full name of the documented object.
    """
    converted = []
    for kind, group in groupby(structured(lines), key=lambda pair: pair[0]):
        text = "\n".join(line for _, line in group)
        converted += (inline(text, links) if kind == PROSE else text).split("\n")
    return converted


def blocks(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each line with its kind: examples and equations are code. Equations get the mark of a literal block."""
    above, is_after_blank, in_example = (
        "",
        True,
        False,
    )  # the last line with text, and what holds for the current line
    literal = (
        -1
    )  # indentation of the text before the current equation; -1 outside of equations
    for line in lines:
        if not line.strip():
            in_example, is_after_blank = False, True
            yield PROSE, ""
            continue
        indent, around = _indent(line), _indent(above)
        in_example = in_example or line.lstrip().startswith(">>>")
        literal = literal if indent > literal >= 0 else -1
        is_inset = (
            is_after_blank
            and indent > around
            and bool(above)
            and above.strip() not in SECTIONS
        )
        if is_inset and literal < 0 and not in_example:
            literal = around
            yield from ((CODE, " " * around + ".. code-block:: text"), (CODE, ""))
        yield (CODE if in_example or literal >= 0 else PROSE), line
        above, is_after_blank = line, False


def structured(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each line with its kind, and with the marks of literal blocks, remarks and lists."""
    above = section = ""  # the line above, and the header of the section
    listed = -1  # indentation of the items of the current list; -1 outside of lists
    for kind, line in blocks(lines):
        text, indent = line.strip(), _indent(line)
        if kind == CODE or not text:
            above = ""
            yield kind, line
            continue
        section = text if text in SECTIONS else section if indent else ""
        if (
            above.endswith(":")
            and not above.startswith(" ")
            and indent
            and above not in SECTIONS
        ):
            listed = indent
            yield CODE, ""
        listed = listed if indent >= listed >= 0 else -1
        if (remark := REMARK.fullmatch(text)) and indent == 0:
            yield from (
                (CODE, ""),
                (CODE, f".. rubric:: {remark[1]}"),
                (CODE, ""),
                (PROSE, remark[2]),
            )
        elif (
            section == "References:" and indent
        ):  # one work after the other, each of which ends with a period
            yield (
                PROSE,
                f"    - {text}"
                if above == section or above.endswith(".")
                else f"      {text}",
            )
        elif listed >= 0:
            yield PROSE, _item(line) if indent == listed else f"  {text}"
        else:  # napoleon would take what is before a colon in the text of "Returns" for a type
            yield PROSE, ":returns:" if text == "Returns:" else line
        above = line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _item(line: str) -> str:
    """Return an item `names: explanation` of a list, without indentation and with its names as code."""
    names, colon, explanation = line.strip().partition(": ")
    return (
        f"- `{names}`: {explanation}" if colon and "`" not in names else f"- {line.strip()}"
    )


def inline(text: str, links: dict[str, str]) -> str:
    """Return prose with links or literals in place of code in backticks, and with its special characters escaped."""
    parts = text.split("`")
    for number, part in enumerate(parts):
        if number % 2 == 0:
            escaped = re.sub(r"([*|]|_(?!\w))", r"\\\1", part)
            parts[number] = (
                rf"\ {escaped}" if number and escaped[:1].isalnum() else escaped
            )  # a role must not touch a word
        else:
            code = re.sub(r"\n\s*", " ", part)
            parts[number] = (
                f":py:obj:`{code} <{links[code]}>`" if code in links else f"``{code}``"
            )
    return "".join(parts)


@cache
def links() -> dict[str, str]:
    """Return the full names of public objects by the names that docstrings use: with the module, or without it if unique."""
    documented: dict[
        int, str
    ] = {}  # by the identity of an object, its first name, which is that in `jlstm` if it has one there
    by_name: dict[str, set[str]] = {}
    for name, value in public_names():
        target = documented.setdefault(id(value), name)
        by_name.setdefault(name, set()).add(target)
        if (short_name := name.rpartition(".")[2])[
            0
        ].isupper():  # others may be names of arguments
            by_name.setdefault(short_name, set()).add(target)
    return {name: targets.pop() for name, targets in by_name.items() if len(targets) == 1}


def process(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Convert a docstring in place."""
    lines[:] = convert(lines, links())


def signature(
    app: Sphinx, what: str, name: str, value: Any, *_: Any
) -> tuple[str, str] | None:
    """Return the fields of a class of options as its signature. Its `__new__` takes anything, to give better errors."""
    if what != "class" or not dataclasses.is_dataclass(value):
        return None
    parameters = list(inspect.signature(value.__init__).parameters.values())[1:]
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters
    ]
    return str(inspect.Signature(bare)), ""


def skip(
    app: Sphinx, what: str, name: str, value: Any, is_skipped: bool, options: Any
) -> bool | None:
    """Leave out the fields of tuples, which the section "Attributes" explains."""
    is_field = (getattr(value, "__doc__", None) or "").startswith("Alias for field number")
    return True if is_field else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handlers with Sphinx."""
    app.connect(
        "autodoc-process-docstring", process, priority=400
    )  # before napoleon, which has 500
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
