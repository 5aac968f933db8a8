"""The arguments of other frameworks' LSTMs, and what to write in jlstm instead. `coming_from.py` makes tables of them."""

from typing import NamedTuple


class Row(NamedTuple):
    """An argument or a call of a framework.

    Attributes:
        theirs: how it is written there.
        here: what to write here, as Markdown.
        options: the options of `LSTM` or the arguments of `apply` that do the same.
    """

    theirs: str
    here: str
    options: tuple[str, ...] = ()


class Framework(NamedTuple):
    """A framework and its page.

    Attributes:
        page: name of the page in docs/coming_from.
        name: name in the heads of tables.
        pattern: what a sentence in a docstring contains if it is about the framework.
        converter: the module of `jlstm.convert` whose docstring describes the weights.
        callables: the classes and functions whose arguments are in `rows`, as "module:name".
        rows: its arguments.
    """

    page: str
    name: str
    pattern: str
    converter: str
    callables: tuple[str, ...]
    rows: tuple[Row, ...]


SCAN = "`carry, ys = layer.apply(params, xs)`"
PENALTY = "add the penalty to the loss, or use `optax.add_decayed_weights`"
PROJECTION = "an optax transformation, such as `optax.keep_params_nonnegative`"

KERAS = (
    Row("LSTM(units)", "`LSTM(units)`, and `layer.init(key, features=…)` for the parameters", ("units",)),
    Row("activation", "`activation`", ("activation",)),
    Row("recurrent_activation", "`recurrent_activation`", ("recurrent_activation",)),
    Row("use_bias", "`use_bias`", ("use_bias",)),
    Row("unit_forget_bias=True", "`forget_bias=1.0`, the default; `None` for False", ("forget_bias",)),
    Row("kernel_initializer", "`kernel_init`", ("kernel_init",)),
    Row("recurrent_initializer", "`recurrent_init`", ("recurrent_init",)),
    Row("bias_initializer", "`bias_init`", ("bias_init",)),
    Row("kernel_regularizer", PENALTY),
    Row("recurrent_regularizer", PENALTY),
    Row("bias_regularizer", PENALTY),
    Row("activity_regularizer", "add the penalty on `ys` to the loss"),
    Row("kernel_constraint", PROJECTION),
    Row("recurrent_constraint", PROJECTION),
    Row("bias_constraint", PROJECTION),
    Row("dropout", "`dropout`; it is on if `apply` gets a key", ("dropout",)),
    Row("recurrent_dropout", "`recurrent_dropout`", ("recurrent_dropout",)),
    Row("seed", "`key=jax.random.key(seed)` in `init` and `apply`", ("key",)),
    Row("return_sequences=True", f"always: {SCAN}"),
    Row("return_sequences=False", "`layer.last_output(carry)`"),
    Row("return_state=True", f"always: {SCAN}"),
    Row("go_backwards=True", "`reverse=True`; outputs stay in the order of the inputs", ("reverse",)),
    Row("stateful=True", "pass the last carry to the next call", ("carry",)),
    Row("unroll=True", '`unroll="all"`', ("unroll",)),
    Row("use_cudnn", "`backend`; see `jlstm.explain`", ("backend",)),
    Row("zero_output_for_mask=True", "always: outputs of masked steps are zero"),
    Row("initial_state=[h, c]", "`layer.apply(params, xs, LSTMCarry(h, c))`", ("carry",)),
    Row("mask", "`layer.apply(params, xs, mask=mask)`, or `lengths=`", ("mask", "lengths")),
    Row("training=True", "`layer.apply(params, xs, key=key)`", ("key",)),
    Row("dtype policy mixed_bfloat16", "inputs in bfloat16, or `dtype`; parameters stay in float32", ("dtype", "param_dtype")),
    Row("Bidirectional(layer, merge_mode)", "`Bidirectional(layer, merge)`"),
    Row("backward_layer", "both directions of a `Bidirectional` have the options of its layer"),
    Row("RNN([cell, cell]), StackedRNNCells", "`Stack((RNN(cell), RNN(cell)))`"),
    Row("layer.get_weights()", "`params`, with the same names, shapes and order of gates", ("params",)),
)
PYTORCH = (
    Row("input_size", "`layer.init(key, features=input_size)`"),
    Row("hidden_size", "`LSTM(hidden_size)`", ("units",)),
    Row("num_layers=2", "`Stack((LSTM(20), LSTM(20)))`"),
    Row("bias=False", "`use_bias=False`", ("use_bias",)),
    Row("batch_first=True", "the default; `LSTM(20, time_major=True)` has time first", ("time_major",)),
    Row("dropout=0.3, between layers", "`Stack((RNN(cells.Dropout(LSTMCell(20), outputs=0.3)), LSTM(20)))`"),
    Row("bidirectional=True", "`Bidirectional(LSTM(20))`, in a `Stack` for several layers"),
    Row("proj_size=8", "`projection=8`", ("projection",)),
    Row("device", "`jax.device_put(params, device)`"),
    Row("dtype", "`param_dtype` for the parameters, `dtype` for the computation", ("dtype", "param_dtype")),
    Row("nn.LSTMCell, one step", "`layer.step(params, carry, x)`"),
    Row("lstm(x, (h_0, c_0))", "`layer.apply(params, xs, LSTMCarry(h, c))`; there is no axis of layers", ("carry",)),
    Row("output, (h_n, c_n)", SCAN),
    Row("h_n", "`carry.h` of each layer and direction; `layer.last_output(carry)` for the last layer"),
    Row("pack_padded_sequence(x, lengths)", "`layer.apply(params, xs, lengths=lengths)`, in any order", ("lengths",)),
    Row("lstm.train(), lstm.eval()", "with a key, `layer.apply(params, xs, key=key)`, or without", ("key",)),
    Row("lstm.state_dict()", "`params`; `convert.torch.load(state_dict)` returns the layer and its parameters", ("params",)),
    Row("flatten_parameters()", "leave it out"),
)
FLAX = (
    Row("LSTMCell(features)", "`LSTM(features)`", ("units",)),
    Row("in_features", "`layer.init(key, features=in_features)`, or `features=` of `jlstm.nnx.Recurrent`"),
    Row("hidden_features", "`LSTM(hidden_features)`", ("units",)),
    Row("gate_fn", "`recurrent_activation`", ("recurrent_activation",)),
    Row("activation_fn", "`activation`", ("activation",)),
    Row("kernel_init", "`kernel_init`", ("kernel_init",)),
    Row("recurrent_kernel_init", "`recurrent_init`", ("recurrent_init",)),
    Row("bias_init", "`bias_init`", ("bias_init",)),
    Row("dtype", "`dtype`", ("dtype",)),
    Row("param_dtype", "`param_dtype`", ("param_dtype",)),
    Row("carry_init", "`cells.LearnedCarry`, or pass a carry to `apply`"),
    Row("rngs", "`key=` in `init` and `apply`; the modules of `jlstm.nnx` and `jlstm.linen` take `rngs`", ("key",)),
    Row("nn.RNN(cell)", "`jlstm.linen.Recurrent(layer)`"),
    Row("nnx.RNN(cell)", "`jlstm.nnx.Recurrent(layer, features, rngs=rngs)`"),
    Row("nn.Bidirectional, nnx.Bidirectional", "`Bidirectional(layer)`"),
    Row("merge_fn", "`merge`, or `merge=None` and your own function"),
    Row("time_major", "`time_major`", ("time_major",)),
    Row("return_carry=True", f"always: {SCAN}"),
    Row("reverse, keep_order=True", "`reverse=True`; outputs always stay in the order of the inputs", ("reverse",)),
    Row("unroll", "`unroll`", ("unroll",)),
    Row("initial_carry", "`layer.apply(params, xs, carry)`", ("carry",)),
    Row("cell.initialize_carry(rng, shape)", "`layer.initial_carry(params, batch_shape)`"),
    Row("seq_lengths", "`lengths`", ("lengths",)),
    Row("segmentation_mask", "`mask`", ("mask",)),
    Row("a carry (c, h)", "`LSTMCarry(h, c)`", ("carry",)),
    Row("variable_axes, variable_broadcast, variable_carry", "`jax.lax.scan` over `layer.step`, or `jlstm.linen.Step`"),
    Row("split_rngs", "leave it out: `key` is split for you"),
    Row("state_axes, broadcast_rngs", "leave it out: dropout masks are drawn once for a sequence, see `cells.Dropout`"),
    Row("nn.remat, nnx.remat", '`remat="sqrt"`', ("remat",)),
    Row('variables["params"]', "`params`", ("params",)),
)
HAIKU = (
    Row("hk.LSTM(hidden_size)", "`LSTM(hidden_size)`", ("units",)),
    Row("hk.transform, init and apply", "`layer.init(key, features)` and `layer.apply(params, xs)`", ("params",)),
    Row("core(x, state)", "`carry, y = layer.step(params, carry, x)`; here the carry comes first", ("carry",)),
    Row("core.initial_state(batch_size)", "`layer.initial_carry(params, (batch_size,))`", ("carry",)),
    Row("hk.dynamic_unroll(core, xs, state)", "`layer.apply(params, xs, carry)`", ("carry",)),
    Row("hk.static_unroll", '`unroll="all"`', ("unroll",)),
    Row("time_major=True", "`time_major=True`; the default is False here, and True there", ("time_major",)),
    Row("reverse=True", "`reverse=True`", ("reverse",)),
    Row("return_all_states=True", "`jlstm.cell_states(layer, params, xs)`"),
    Row("unroll", "`unroll`", ("unroll",)),
    Row("hk.ResetCore(core), with (x, should_reset)", "`layer.apply(params, xs, resets=should_reset)`", ("resets",)),
    Row("hk.DeepRNN([core, core])", "`Stack((layer, layer))`"),
    Row("hk.deep_rnn_with_skip_connections", "concatenate `xs` to the outputs of each layer yourself"),
    Row("hk.LSTMState(hidden, cell)", "`LSTMCarry(h, c)`"),
    Row("hk.Conv2DLSTM", "`RNN(ConvLSTMCell(…))`"),
    Row("name", "leave it out: parameters are named by the structure of the layer"),
)
EQUINOX = (
    Row("LSTMCell(input_size, hidden_size)", "`LSTM(hidden_size)`, and `layer.init(key, features=input_size)`", ("units",)),
    Row("use_bias", "`use_bias`", ("use_bias",)),
    Row("dtype", "`param_dtype`", ("param_dtype",)),
    Row("key", "`layer.init(key, features)`"),
    Row("cell(x, (h, c))", "`carry, y = layer.step(params, carry, x)`", ("carry",)),
    Row("jax.lax.scan over the cell", "`layer.apply(params, xs)`", ("unroll", "reverse")),
    Row("jax.vmap over the batch", "leave it out: inputs have any number of batch axes"),
    Row("eqx.filter_jit, eqx.filter_grad", "`jax.jit`, `jax.grad`: `params` holds only arrays", ("params",)),
    Row("eqx.filter_checkpoint", '`remat="sqrt"`', ("remat",)),
    Row("eqx.nn.Dropout, inference=True", "`dropout`, without a key", ("dropout", "key")),
)
TF1 = (
    Row("num_units", "`LSTM(num_units)`", ("units",)),
    Row("use_peepholes", "`peephole`", ("peephole",)),
    Row("cell_clip", "`cell_clip`", ("cell_clip",)),
    Row("num_proj", "`projection`", ("projection",)),
    Row("proj_clip", "`projection_clip`", ("projection_clip",)),
    Row("initializer", "`kernel_init` and `recurrent_init`", ("kernel_init", "recurrent_init")),
    Row("forget_bias=1.0", "`forget_bias=1.0`; here it is part of `bias`", ("forget_bias",)),
    Row("activation", "`activation`", ("activation",)),
    Row("state_is_tuple", "always: `LSTMCarry(h, c)`, where TensorFlow has (c, h)", ("carry",)),
    Row("num_unit_shards, num_proj_shards", "`jlstm.train.mesh(units=…)` splits wide layers over devices"),
    Row("reuse, name, scope", "leave it out: parameters are arguments, so the same tree can be used twice"),
    Row("dtype", "`param_dtype`", ("param_dtype",)),
    Row("dynamic_rnn(cell, inputs)", SCAN),
    Row("sequence_length", "`lengths`", ("lengths",)),
    Row("initial_state", "`layer.apply(params, xs, LSTMCarry(h, c))`", ("carry",)),
    Row("time_major", "`time_major`", ("time_major",)),
    Row("swap_memory", '`remat="sqrt"` saves memory by computing again', ("remat",)),
    Row("parallel_iterations", "leave it out"),
    Row("static_rnn", '`unroll="all"`', ("unroll",)),
    Row("MultiRNNCell([cell, cell])", "`Stack((RNN(cell), RNN(cell)))`"),
    Row("bidirectional_dynamic_rnn", "`Bidirectional(layer, merge=None)` returns both outputs"),
    Row("DropoutWrapper(cell, output_keep_prob=p)", "`cells.Dropout(cell, outputs=1-p)`"),
    Row("variational_recurrent=True", "`cells.Dropout(…, variational=True)`"),
    Row("ResidualWrapper, HighwayWrapper", "`cells.Residual`, `cells.Highway`"),
    Row("LayerNormBasicLSTMCell", '`layer_norm="tf_contrib"`', ("layer_norm",)),
    Row("CoupledInputForgetGateLSTMCell", '`coupled="i=1-f"`', ("coupled",)),
    Row("LSTMBlockFusedCell, CudnnLSTM", "`backend`; see `jlstm.explain`", ("backend",)),
)

LINEN = ("flax.linen:LSTMCell", "flax.linen:RNN", "flax.linen:RNN.__call__")
NNX = ("flax.nnx:LSTMCell.__init__", "flax.nnx:RNN.__init__", "flax.nnx:RNN.__call__")
CELLS = "tf_keras.src.layers.rnn.legacy_cells"

FRAMEWORKS = (
    Framework("keras", "Keras", "Keras", "keras", ("keras.layers:LSTM.__init__", "keras.layers:LSTM.call"), KERAS),
    Framework("pytorch", "PyTorch", "PyTorch", "torch", ("torch.nn:RNNBase.__init__",), PYTORCH),
    Framework("flax", "Flax", "Flax", "flax", LINEN + NNX, FLAX),
    Framework("haiku", "Haiku", "Haiku", "haiku", ("haiku:LSTM.__init__", "haiku:dynamic_unroll"), HAIKU),
    Framework("equinox", "Equinox", "Equinox", "equinox", ("equinox.nn:LSTMCell.__init__",), EQUINOX),
    Framework(
        "tf1",
        "TensorFlow 1",
        "TensorFlow(?! Lite| Addons)",
        "tf1_cells",
        (f"{CELLS}:LSTMCell.__init__", "tensorflow:compat.v1.nn.dynamic_rnn"),
        TF1,
    ),
)
