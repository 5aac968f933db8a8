"""Tables for the pages in docs/coming_from: what the arguments of other frameworks are called here, and what differs.

`python tests/support/coming_from.py` writes them into the pages. Arguments are in `frameworks`, and the differences come from the
docstrings.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import jlstm
from frameworks import FRAMEWORKS, Framework
from jlstm import cells, data, layers, models, train

PAGES = Path(__file__).resolve().parents[2] / "docs" / "coming_from"
# A sentence that begins with none of these continues the one before.
SUBJECT = re.compile(
    r"(Keras|PyTorch|Flax|Haiku|Equinox|TensorFlow|ONNX|The |the (authors|carry)|Gal|`optax|`DropoutWrapper|For)"
)


def arguments(framework: Framework) -> str:
    """Return the table from the framework's arguments to ours."""
    rows = [f"| `{row.theirs}` | {row.here} |" for row in framework.rows]
    return "\n".join([f"| {framework.name} | here |", "|---|---|", *rows]) + "\n"


def options(framework: Framework) -> str:
    """Return the table from the options of `LSTM` and the arguments of `apply` to the framework's."""
    of_apply = list(inspect.signature(jlstm.Layer.apply).parameters)[3:]  # without self, params and xs
    names = [*inspect.signature(jlstm.LSTM).parameters, *of_apply]
    lines = []
    for name in names:
        theirs = [f"`{row.theirs}`" for row in framework.rows if name in row.options]
        lines.append(f"| `{name}` | {', '.join(theirs) or '–'} |")
    return "\n".join([f"| here | {framework.name} |", "|---|---|", *lines]) + "\n"


def differences(framework: Framework) -> str:
    """Return the sentences on the framework from the lines "Differs from" of all public docstrings, as a list."""
    all_sentences = ((name, sentence) for name, text in documented() for sentence in sentences(text))
    lines = [f"- `{name}`: {sentence}" for name, sentence in all_sentences if re.search(framework.pattern, sentence)]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def documented() -> Iterator[tuple[str, str]]:
    """Yield the names of public classes, functions and methods with their text after "Differs from"."""
    for module in (jlstm, cells, layers, models, data, train):
        for name in module.__all__:
            value = getattr(module, name)
            members = vars(value).items() if inspect.isclass(value) else ()
            methods = [(f"{name}.{key}", member) for key, member in members if inspect.isfunction(member)]
            for full_name, documented_value in ((name, value), *methods):
                docstring = inspect.getdoc(documented_value) or ""
                if match := re.search(r"^Differs from: (.*?)(\n\n|\Z)", docstring, re.DOTALL | re.MULTILINE):
                    yield full_name, " ".join(match[1].split())


def sentences(text: str) -> list[str]:
    """Split a text into statements. One without a subject of its own stays with the one before."""
    parts: list[str] = []
    for part in re.split(r"(?<=\.) (?=[A-Z`])|; ", text):
        if parts and not SUBJECT.match(part):
            parts[-1] += (" " if parts[-1].endswith(".") else "; ") + part
        else:
            parts.append(part)
    return [part if part.endswith(".") else f"{part}." for part in parts]


def weights(framework: Framework) -> str:
    """Return what the converter's docstring says of the layout of the weights."""
    module = import_module(f"jlstm.convert.{framework.converter}")
    text = inspect.getdoc(module) or ""
    return re.sub(r"\n(?!\n)", " ", text.split("\n\n", 1)[1]).replace(" \n", "\n").strip() + "\n"


TABLES = {"arguments": arguments, "options": options, "differences": differences, "weights": weights}


def into(framework: Framework, page: str) -> str:
    """Put the tables between the page's marks, such as `<!-- options -->` and `<!-- /options -->`."""
    for name, table in TABLES.items():
        head, tail = page.split(f"<!-- {name} -->\n")
        page = f"{head}<!-- {name} -->\n{table(framework)}<!-- /{name} -->{tail.split(f'<!-- /{name} -->')[1]}"
    return page


if __name__ == "__main__":
    for framework in FRAMEWORKS:
        path = PAGES / f"{framework.page}.md"
        path.write_text(into(framework, path.read_text(encoding="utf-8")), encoding="utf-8")
