"""Attention: a wrapper that lets a cell look at a memory at each step."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jlstm._src import checks
from jlstm.activations import Activation, activation
from jlstm.attention.functions import Attended, additive_scores, attend, multiplicative_scores
from jlstm.attention.memory import Memory
from jlstm.cell import DropoutMasks, MaskedInputs, Params, PyTree
from jlstm.cells.wrappers.base import Nested, Wrapper
from jlstm.initializers import draw

SCORES = ("additive", "multiplicative")


class AttentionCarry(NamedTuple):
    """The carry of an `Attention` cell.

    Attributes:
        cell: the carry of the inner cell. The last carry of an encoder may be put here.
        attention: the attention vector of the last step, which the next step gets beside its input.
        weights: the weights of the last step over the positions of the memory. Those of all steps are in
            `jlstm.cell_states(layer, params, xs)[1].weights`.
    """

    cell: PyTree
    attention: Float[Array, "*batch size"]
    weights: Float[Array, "*batch source"]


jax.export.register_namedtuple_serialization(AttentionCarry, serialized_name="jlstm.attention.AttentionCarry")


class _Source(NamedTuple):
    """The memory as the steps of one sequence need it. Batch axes that are shared have size 1."""

    keys: Float[Array, "*batch source units"]
    values: Float[Array, "*batch source size"]
    mask: Bool[Array, "*batch source"]


@dataclass(frozen=True, repr=False)
class Attention(Wrapper):
    """Let a cell attend to a memory at each step, with "input feeding": the attention vector is part of the next input.

        y = cell([x; a]),  context = Σ_s softmax(score(y, m))_s m_s,  a' = φ([y; context] W_a)

    Here m_s are the positions of the memory, a is the attention vector of the previous step, zero at first, and [·; ·] is a
    concatenation. The score is

        additive: v · tanh(y W_q + m_s W_m),  multiplicative: g y · (m_s W_m)

    Without `attention_features` there is no W_a, and a' is the context. Pass `with_memory(params, memory)` as parameters to the
    layer. `jlstm.cell_states` also returns the weights of all steps.

    Parameters: `cell`, the parameters of the inner cell, for inputs [x; a]; `memory_kernel` W_m (memory_features, units);
    `query_kernel` W_q (outputs of the cell, units) and `scale` v (units,) with the additive score; `scale` g () with `scaled`,
    which starts at 1; `attention_kernel` W_a (outputs of the cell + memory_features, attention_features).

    Args:
        cell: a cell without spatial axes.
        memory_features: size of the last axis of the memory.
        score: "additive" or "multiplicative".
        units: size of the hidden layer of the additive score. None takes the number of outputs of the cell.
        scaled: learn the factor g of the multiplicative score. Without it g is 1.
        attention_features: size of the attention vector. None takes the context as it is.
        activation: the function φ. Luong et al. have "tanh".
        output_attention: return a' as output. Without it, the output is that of the cell, y.

    Raises:
        TypeError: `cell` is not a Cell.
        ValueError: a size is below 1, the score or the activation is unknown, an option is for another score, or the cell has
            spatial axes. At `apply`: the parameters have no memory, or one with other batch axes than the inputs.

    References:
        Additive: Bahdanau, Cho & Bengio, 2015, "Neural machine translation by jointly learning to align and translate",
        https://arxiv.org/abs/1409.0473.
        Multiplicative: Luong, Pham & Manning, 2015, "Effective approaches to attention-based neural machine translation",
        https://arxiv.org/abs/1508.04025.

    Differs from: TensorFlow's AttentionWrapper gets the memory in the constructor of an attention mechanism. Its names are
    `num_units` (`units`), `scale` (`scaled`) and `attention_layer_size` (`attention_features`).

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.attention import Attention, with_memory
        >>> decoder = jlstm.RNN(Attention(jlstm.LSTMCell(4), memory_features=5, attention_features=6))
        >>> params, memory = decoder.init(jax.random.key(0), features=3), jax.numpy.ones((2, 7, 5))
        >>> params = with_memory(params, memory, lengths=jax.numpy.array([7, 2]))
        >>> carry, states = jlstm.cell_states(decoder, params, jax.numpy.ones((2, 3, 3)))
        >>> states.weights.shape, states.weights[1, 0].tolist()
        ((2, 3, 7), [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    """

    memory_features: int
    _: KW_ONLY
    score: str = "additive"
    units: int | None = None
    scaled: bool = False
    attention_features: int | None = None
    activation: Activation = "linear"
    output_attention: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("memory_features", "units", "attention_features"):
            if name == "memory_features" or getattr(self, name) is not None:
                self._store(**{name: checks.positive(name, getattr(self, name))})
        checks.one_of("score", self.score, SCORES)
        checks.flag("scaled", self.scaled)
        checks.flag("output_attention", self.output_attention)
        activation(self.activation)
        if self.units is not None and self.score != "additive":
            raise ValueError(f"units is for the additive score, got score={self.score!r}: leave it out")
        if self.scaled and self.score != "multiplicative":
            raise ValueError(f"scaled is for the multiplicative score, got score={self.score!r}: leave it out")
        if self.activation != "linear" and self.attention_features is None:
            raise ValueError("activation is for an attention vector of its own size, got none: give attention_features")
        if self.cell.spatial_out or self.cell.spatial_in:
            raise ValueError(f"Attention is for a cell without spatial axes, got {checks.brief(self.cell)}")

    @property
    def features_out(self) -> int:
        return self._attention_size if self.output_attention else self.cell.features_out

    @property
    def gives_h(self) -> bool:
        """False: no part of the carry is called h."""
        return False

    @property
    def _attention_size(self) -> int:
        return self.attention_features or self.memory_features

    def features_in(self, params: Params) -> int:
        return self.cell.features_in(params["cell"]) - self._attention_size

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        for_cell, for_memory, for_query, for_scale, for_attention = jax.random.split(key, 5)
        out, memory, additive = self.cell.features_out, self.memory_features, self.score == "additive"
        units = (self.units or out) if additive else out
        params = {
            "cell": self.cell.init(for_cell, features + self._attention_size, dtype),
            "memory_kernel": draw("glorot_uniform", for_memory, (memory, units), dtype),
        }
        if additive:
            params["query_kernel"] = draw("glorot_uniform", for_query, (out, units), dtype)
            # TensorFlow and Keras draw v from ±√(3 / units): for them a vector has as many inputs as outputs.
            params["scale"] = draw("lecun_uniform", for_scale, (units, 1), dtype)[:, 0]
        elif self.scaled:
            params["scale"] = jnp.ones((), dtype)
        if self.attention_features is not None:
            shape = (out + memory, self.attention_features)
            params["attention_kernel"] = draw("glorot_uniform", for_attention, shape, dtype)
        return params

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        checks.instance("params", params, Mapping, "{'cell': …, 'memory_kernel': …}")
        return params["cell"]

    def outer_carry(self, params: Params, batch_shape: tuple[int, ...], carry: PyTree) -> AttentionCarry:
        """Return the initial carry of the inner cell, an attention vector of zeros, and weights of zeros."""
        values = _memory(params, batch_shape).values
        zeros = (jnp.zeros((*batch_shape, size), values.dtype) for size in (self._attention_size, values.shape[-2]))
        return AttentionCarry(carry, *zeros)

    def outer_context(
        self, params: Params, batch_shape: tuple[int, ...], dtype: Any, key: Array | None, dropout_masks: DropoutMasks | None
    ) -> _Source:
        """Return the memory, with its keys m W_m, which are the same at all steps."""
        values, mask = _memory(params, batch_shape)
        return _Source(values @ params["memory_kernel"], values, mask > 0)

    def project(self, params: Params, context: Nested, xs: Any) -> Nested:
        """Return the inputs, and the dropout masks of the inner cell: its inputs also contain the attention of the last step."""
        return Nested(xs.xs, xs.dropout_masks.inner) if isinstance(xs, MaskedInputs) else Nested(xs, None)

    def step(self, params: Params, context: Nested, carry: AttentionCarry, z: Nested) -> tuple[AttentionCarry, Array]:
        """Run a step of the inner cell on the input and the last attention vector, and attend with its output."""
        new_carry, y = self.cell.step(params["cell"], context.inner, carry.cell, self._inner_z(params, context, carry, z))
        attention, weights = self._attended(params, context.outer, y)
        if self.attention_features is not None:
            attention = activation(self.activation)(jnp.concatenate([y, attention], axis=-1) @ params["attention_kernel"])
        return AttentionCarry(new_carry, attention, weights), attention if self.output_attention else y

    def gates(self, params: Params, context: Nested, carry: AttentionCarry, z: Nested) -> Any:
        return self.cell.gates(params["cell"], context.inner, carry.cell, self._inner_z(params, context, carry, z))

    def reduced(self, params: Params, context: Nested, xs: Any) -> None:
        """Return None: the inner cell needs the attention of each step."""
        return

    def _inner_z(self, params: Params, context: Nested, carry: AttentionCarry, z: Nested) -> PyTree:
        """Return the projected input of the inner cell for one step."""
        xs = jnp.concatenate([z.outer, carry.attention], axis=-1)[None]  # as a sequence of one step
        inputs = xs if z.inner is None else MaskedInputs(xs, jax.tree.map(lambda leaf: leaf[None], z.inner))
        return jax.tree.map(lambda leaf: leaf[0], self.cell.project(params["cell"], context.inner, inputs))

    def _attended(self, params: Params, source: _Source, y: Array) -> Attended:
        """Return the context and the weights for the output `y` of the inner cell (*batch, size)."""
        scale = params.get("scale")
        if self.score == "additive":
            scores = additive_scores((y @ params["query_kernel"])[..., None, :], source.keys, scale)
        else:
            scores = multiplicative_scores(y[..., None, :], source.keys, scale)
        return Attended(*(array[..., 0, :] for array in attend(scores, source.values, source.mask)))


def _memory(params: Params, batch_shape: tuple[int, ...]) -> Memory:
    """Return the memory in the parameters, with as many batch axes as the inputs.

    Raises:
        ValueError: there is none, or its batch axes do not fit.
    """
    memory = params.get("memory")
    if not isinstance(memory, Memory):
        raise ValueError("params of an Attention cell must have a memory, got none: pass attention.with_memory(params, memory)")
    batch, missing = memory.values.shape[:-2], len(batch_shape) - (memory.values.ndim - 2)
    padded = (1,) * missing + batch
    if missing < 0 or any(size not in (1, wanted) for size, wanted in zip(padded, batch_shape, strict=True)):
        raise ValueError(f"memory must have the batch axes {batch_shape} of the inputs, or 1 in their place, got {batch}")
    return Memory(*(jnp.expand_dims(array, range(missing)) for array in memory))
