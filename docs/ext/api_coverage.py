"""Fail the build if a public name of `jlstm` or `parity` is missing from the reference."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import jlstm
import parity

LOG = logging.getLogger(__name__)
# Other modules whose names are public.
OTHERS = (
    "jlstm.activations",
    "jlstm.backends.contract",
    "jlstm.cell",
    "jlstm.compat.flax",
    "jlstm.compat.keras",
    "jlstm.initializers",
    "jlstm.linen",
    "jlstm.nnx",
)


@cache
def modules() -> tuple[ModuleType, ...]:
    """Return the modules whose names are public: packages with `__all__`, converters, and those in `OTHERS`."""
    names = [
        f"jlstm.{module.name}"
        for module in pkgutil.iter_modules(jlstm.__path__)
        if not module.name.startswith("_")
    ]
    packages = [
        module
        for name in names
        if hasattr(module := importlib.import_module(name), "__all__")
    ]
    converters = [getattr(jlstm.convert, name) for name in jlstm.convert.__all__]
    others = [importlib.import_module(name) for name in OTHERS]
    return (jlstm, parity, *packages, *filter(inspect.ismodule, converters), *others)


def public_names() -> Iterator[tuple[str, Any]]:
    """Yield the full name and the value of each public name, except for modules, which `modules` returns.

    A name may come twice, for example as `jlstm.LSTMCell` and as `jlstm.cells.LSTMCell`.
    """
    for module in modules():
        names = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items() if _is_defined(module, value)
        ]
        for name in names:
            if not name.startswith("_") and not inspect.ismodule(
                value := getattr(module, name)
            ):
                yield f"{module.__name__}.{name}", value


def _is_defined(module: ModuleType, value: Any) -> bool:
    return (
        inspect.isclass(value) or inspect.isfunction(value)
    ) and value.__module__ == module.__name__


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of each public name that no page documents, under this or another name."""
    documented = env.domaindata["py"]["objects"]
    values = [value for name, value in public_names() if name in documented]
    for name, value in public_names():
        if name not in documented and not any(value is other for other in values):
            LOG.warning(
                "%s is public but on no page of the reference: add it to docs/api", name
            )
    for module in modules():
        if (
            f"module-{module.__name__}" not in env.domaindata["std"]["anonlabels"]
            and module.__name__ not in documented
        ):
            LOG.warning(
                "the module %s is public but on no page of the reference: add it to docs/api",
                module.__name__,
            )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the check with Sphinx."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
