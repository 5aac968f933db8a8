"""NNXModel: a model of this package as an NNX module."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jlstm._src import checks
from jlstm._src.params_module import ParamsModule
from jlstm.cell import Params
from jlstm.models import parts
from jlstm.models.language_model import LanguageModel
from jlstm.models.sequence_classifier import SequenceClassifier


class NNXModel(ParamsModule):
    """A model of this package with its parameters, as an NNX module. Calls take the arguments of the model, and return the same.

    The parameters are `nnx.Param`s with the names that they have in the linen model, such as `model.head["kernel"]`.

    Dropout works as in `nnx.Dropout`: it is on at first and after `train()`, and off after `eval()` and in `nnx.view(model,
    deterministic=True)`. A `key` that is passed to the call is always used.

    Args:
        module: A `SequenceClassifier` or a `LanguageModel`.
        params: Parameters of the model in place of new ones, `variables["params"]` in linen.
        rngs: The `params` stream draws the parameters. The `dropout` stream draws the masks, if the model has dropout.

    Raises:
        TypeError: `module` is not such a model, or neither `params` nor `rngs` are passed.
        ValueError: `params` are not those of the model, or `rngs` lacks a stream.

    Examples:
        >>> import jax, jlstm
        >>> from flax import nnx
        >>> from jlstm.models import LanguageModel, NNXModel, generate
        >>> model = NNXModel(LanguageModel(vocabulary=50, units=8, dropout=0.5), rngs=nnx.Rngs(0))
        >>> tokens = jax.numpy.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
        >>> logits, carry = model(tokens)  # with dropout
        >>> model.eval()
        >>> logits, carry = model(tokens, carry)  # reads on where it was
        >>> logits.shape, model.head["kernel"].shape
        ((2, 5, 50), (8, 50))
        >>> generate(model.module, model.params, jax.random.key(1), tokens, length=20).shape
        (2, 20)
    """

    def __init__(
        self, module: LanguageModel | SequenceClassifier, *, params: Params | None = None, rngs: nnx.Rngs | None = None
    ) -> None:
        if not isinstance(module, LanguageModel | SequenceClassifier):
            raise TypeError(f"module must be a LanguageModel or a SequenceClassifier, got {checks.brief(module)}")
        if rngs is not None:
            checks.instance("rngs", rngs, nnx.Rngs, "nnx.Rngs(0)")
        self.module = module
        if params is not None:
            checks.tree("params", params, parts.param_shapes(module), "pass model.init(key, tokens)['params']")
        elif rngs is not None:
            params = parts.draw(module, rngs.params())
        else:
            raise TypeError("NNXModel needs rngs to draw parameters, or params: write NNXModel(model, rngs=nnx.Rngs(0))")
        super().__init__(jax.tree.map(jnp.asarray, params), stochastic=module.stochastic, rngs=rngs)

    def __call__(self, *args: Any, **arguments: Any) -> Any:
        """Run the model, with its arguments: `tokens` first, and others by name such as `lengths`."""
        return self.module.apply({"params": self.params}, *args, **self.with_key(arguments))
