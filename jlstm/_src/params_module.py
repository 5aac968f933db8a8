"""ParamsModule: what the NNX modules of layers and of models have in common."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jlstm._src import checks
from jlstm.cell import Params


class ParamsModule(nnx.Module):
    """An NNX module with the entries of a tree of parameters as attributes, and with a switch for dropout.

    Args:
        params: a dict, or a tuple. Attributes need names, so the entries of a tuple are called "0", "1", ….
        stochastic: whether the module has dropout.
        rngs: the streams that a caller passed. One of them draws the dropout masks.

    Raises:
        ValueError: there is dropout but no stream for it, or an entry has the name of another attribute.
    """

    def __init__(self, params: Params, *, stochastic: bool, rngs: nnx.Rngs | None) -> None:
        self.stacked = isinstance(params, tuple)
        entries = {str(k): entry for k, entry in enumerate(params)} if isinstance(params, tuple) else params
        self.names = tuple(entries)
        self.deterministic = False
        self.rngs: Any = nnx.data(_dropout_stream(rngs) if stochastic else None)
        for name, entry in entries.items():
            if hasattr(type(self), name) or name in vars(self):
                raise ValueError(f"the layer has a parameter {name!r}, which this module has for something else: rename it")
            setattr(self, name, nnx.data(jax.tree.map(nnx.Param, entry)))

    def with_key(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call, with a new `key` if dropout is on and there is none among them."""
        is_drawn = self.rngs is not None and not self.deterministic and arguments.get("key") is None
        return {**arguments, "key": self.rngs()} if is_drawn else dict(arguments)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Turn dropout off or on, for `nnx.view`; None leaves it as it is."""
        if deterministic is not None:
            checks.flag("deterministic", deterministic)
            self.deterministic = deterministic

    @property
    def params(self) -> Params:
        """The parameters as one tree, as without NNX; may be set to other ones of the same shapes."""
        entries = {name: nnx.as_pure(getattr(self, name)) for name in self.names}
        return tuple(entries.values()) if self.stacked else entries

    @params.setter
    def params(self, params: Params) -> None:
        """Set the values of all variables."""
        checks.tree("params", params, self.params, "pass parameters of the same shapes")
        for k, name in enumerate(self.names):
            values = params[k if self.stacked else name]
            jax.tree.map(
                lambda variable, value: variable.set_value(jnp.asarray(value)), getattr(self, name), values, is_leaf=_is_variable
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "params":  # Flax would store the value as an attribute, and not call the setter
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _dropout_stream(rngs: nnx.Rngs | None) -> Any:
    if rngs is None or not ("dropout" in rngs or "default" in rngs):
        raise ValueError(
            "dropout needs random keys but rngs has no such stream: pass nnx.Rngs(0) or nnx.Rngs(params=0, dropout=1)"
        )
    return rngs.dropout.fork()
