"""What a program can check of how the code reads: names, comments, lengths, imports, markers, and the docs of public names."""

import ast
import importlib
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import grimp
import pytest

import jlstm
import parity

pytestmark = pytest.mark.no_cover
ROOT = Path(__file__).parents[2]
PACKAGES = ("jlstm", "parity", "benchmarks", "examples", "fuzz", "tests")
PRONOUNS = {
    *(
        "asked",
        "before",
        "both",
        "each",
        "found",
        "given",
        "it",
        "kept",
        "known",
        "left",
        "more",
        "now",
        "one",
        "other",
        "others",
    ),
    *("others", "own", "rest", "said", "seen", "that", "them", "they", "this", "told", "what", "which", "who"),
}
MODULES = (
    "attention",
    "cells",
    "compat.flax",
    "convert",
    "data",
    "introspect",
    "layers",
    "linen",
    "models",
    "nnx",
    "plot",
    "train",
)


class File(NamedTuple):
    """A Python file: its path, its text, and all nodes of its syntax tree, of which the first is the module."""

    path: str
    text: str
    nodes: tuple[ast.AST, ...]


def files(*packages: str) -> list[File]:
    """Return the Python files of packages."""
    return [parsed(path) for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def parsed(path: Path) -> File:
    """Read and parse a file, once for all tests."""
    text = path.read_text(encoding="utf-8")
    return File(str(path.relative_to(ROOT)), text, tuple(ast.walk(ast.parse(text))))


def bound_names(nodes: tuple[ast.AST, ...]) -> Iterator[str]:
    """Yield the names of functions, classes, arguments, variables and fields that a file defines."""
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name


def test_names_say_what_a_value_is():
    """At most one name in a hundred is a pronoun or a participle, such as `given` or `one`."""
    names = [name.strip("_").lower() for file in files(*PACKAGES) for name in bound_names(file.nodes)]
    assert len(names) > 20_000
    assert sum(name in PRONOUNS for name in names) <= len(names) / 100


def test_hard_spots_have_comments():
    """At least six comments for a hundred lines of code in the library; docstrings and blank lines are neither."""
    comments = code = 0
    for _, text, nodes in files("jlstm", "parity"):
        docstrings = set()
        for node in nodes:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                docstrings |= set(range(node.lineno, node.end_lineno + 1))
        lines = enumerate(text.splitlines(), 1)
        code += sum(bool(line.strip()) and not line.strip().startswith("#") and k not in docstrings for k, line in lines)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        comments += sum(token.type == tokenize.COMMENT and "noqa" not in token.string for token in tokens)
    assert comments >= 0.06 * code, (comments, code)


def test_files_and_functions_are_short():
    """No file has more than 300 lines, and no function more than 60 beside its docstring."""
    for path, text, nodes in files(*PACKAGES):
        assert text.count("\n") <= 300, path
        for node in nodes:
            if isinstance(node, ast.FunctionDef):
                docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
                assert node.end_lineno - node.lineno + 1 - docstring <= 60, f"{path}: {node.name}"


def test_files_and_lines_of_the_kernels_are_short():
    """The C++ and CUDA files have at most 300 lines of at most 130 characters. Ruff checks the lines of Python files."""
    backends = ROOT / "jlstm" / "backends"
    paths = [path for suffix in ("h", "cc", "cu", "cuh") for path in backends.glob(f"*/*/*.{suffix}")]
    assert len(paths) > 30
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 300, path
        assert max(map(len, lines)) <= 130, path


def test_imports_have_no_circle():
    """No module imports itself through others, not even inside of a function or only for a type checker."""
    graph = grimp.build_graph("jlstm", "parity", "benchmarks", "fuzz", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 250
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules


def test_marked_tests_are_where_recipes_look_for_them():
    """`just test-scan` and `just test-newest` look for marked tests only in some folders, to collect fewer files."""
    justfile = (ROOT / "justfile").read_text(encoding="utf-8")
    core = re.search(r'^core := "(.*)"$', justfile, re.MULTILINE)[1].split()
    assert "tests/backends tests/test_sharding.py\n" in justfile
    folders = {"every_backend": core, "newest_jax": [*core, "tests/backends", "tests/test_sharding.py"]}
    for marker, collected in folders.items():
        marked = [file.path for file in files("tests") if f"mark.{marker}" in file.text]
        assert marked
        assert all(any(Path(path).is_relative_to(folder) for folder in collected) for path in marked), marker


def test_few_branches_are_on_kinds_of_layers():
    """A new kind of layer is one file: what goes through layers asks them for their children."""
    calls = [
        node
        for file in files("jlstm", "parity")
        for node in file.nodes
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance"
    ]
    kinds = [{getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(call.args[1])} for call in calls]
    assert sum(bool(names & {"Stack", "Bidirectional"}) for names in kinds) <= 12


@cache
def public_functions() -> dict[str, object]:
    """Return the public functions and the public methods of public classes, by name."""
    functions = {}
    for module in (jlstm, parity, *(importlib.import_module(f"jlstm.{name}") for name in MODULES)):
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value):
                members = {f"{name}.{key}": member for key, member in vars(value).items() if not key.startswith("_")}
            else:
                members = {name: value}
            functions |= {f"{module.__name__}.{key}": member for key, member in members.items() if inspect.isfunction(member)}
    return functions


@pytest.mark.parametrize("name", public_functions())
def test_public_functions_say_what_they_take_and_return(name):
    """The summary is a sentence, a list of arguments is complete, and a result is described unless it is None."""
    function = public_functions()[name]
    text = inspect.getdoc(function)
    assert text, "no docstring"
    assert text.split("\n\n")[0].rstrip().endswith((".", ":")), "the summary is a sentence"
    if inspect.signature(function).return_annotation not in (None, inspect.Signature.empty):
        assert re.search(r"\b([Rr]eturns?|Yields?)\b|^(Raise|Whether|Compute|Run) ", text), "the result is not described"
    if "Args:" in text and "other arguments" not in text.lower():
        parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
        assert not [p for p in parameters if p not in text], "arguments that the docstring does not name"


def test_references_have_a_link():
    """Each docstring with a reference links to it."""
    for path, _, nodes in files("jlstm", "parity"):
        for node in nodes:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                docstring = ast.get_docstring(node) or ""
                for section in re.findall(r"^References?:.*?(?:\n\n|\Z)", docstring, re.DOTALL | re.MULTILINE):
                    assert re.search("https?://", section), f"{path}: {section}"


def definitions(tree: ast.AST, *owners: ast.ClassDef) -> Iterator[tuple[tuple[ast.ClassDef, ...], ast.stmt]]:
    """Yield the classes, functions and methods of a file with the classes around them; not what is local to a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield owners, node
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, *owners, node)
        elif isinstance(node, ast.If | ast.Try):
            yield from definitions(node, *owners)


def bases(owner: ast.ClassDef, classes: list[ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """Yield what a class inherits from. A name stands for all classes with that name, since imports are not followed."""
    for expression in owner.bases:
        outermost = next(node for node in ast.walk(expression) if isinstance(node, ast.Name | ast.Attribute))
        name = outermost.attr if isinstance(outermost, ast.Attribute) else outermost.id
        for base in classes:
            if base.name == name != owner.name:
                yield base
                yield from bases(base, classes)


def documents(base: ast.ClassDef, name: str) -> bool:
    """Return whether a class has a method of this name with a docstring, which `inspect.getdoc` shows for overrides too."""
    return any(isinstance(node, ast.FunctionDef) and node.name == name and ast.get_docstring(node) for node in base.body)


def test_public_names_have_docstrings():
    """Every public module, class, function and method has one, but for overrides of a method that a base class documents."""
    trees = {file.path: file.nodes[0] for file in files("jlstm", "parity", "benchmarks")}
    classes = [node for tree in trees.values() for _, node in definitions(tree) if isinstance(node, ast.ClassDef)]
    missing = [path for path, tree in trees.items() if not ast.get_docstring(tree)]
    for path, tree in trees.items():
        for owners, node in definitions(tree):
            inherited = owners and any(documents(base, node.name) for base in bases(owners[-1], classes))
            if not (node.name.startswith("_") or ast.get_docstring(node) or inherited):
                missing.append(f"{path}:{node.lineno}: {node.name}")
    assert not missing
