"""Long-term memory: an LSTM and a plain recurrent network on two tasks, with the gradient flow of each.

Adding: two of T random numbers are marked, and the network outputs their sum. A constant answer of 1 has a mean squared error of
1/6. Copy: ten symbols of eight kinds are shown, then T blanks, and then the network repeats the symbols. Without memory the
cross-entropy is ln 8. Needs `pip install "jlstm[examples]"` and no data.

    python examples/06_long_memory.py --length 400
    python examples/06_long_memory.py --task copy --epochs 50
"""

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import tyro
from matplotlib.figure import Figure

import jlstm
from common.memory_tasks import KINDS, SYMBOLS, Sequences, adding, copy
from common.options import Options, one_sentence
from jlstm import plot, train
from jlstm.introspect import Flow, gradient_flow

TASKS = {  # task: (function that draws sequences, number of outputs, loss without memory)
    "adding": (adding, 1, 1 / 6),
    "copy": (copy, KINDS, math.log(KINDS)),
}


@dataclass(frozen=True)
class MemoryOptions(Options):
    """Train an LSTM and a plain recurrent network on a memory task. Save a picture of losses and gradient flow."""

    task: Literal["adding", "copy"] = "adding"  # the task to learn
    length: int = 100  # T: numbers per sequence (adding), or blanks between symbols and answer (copy)
    units: int = 64  # units of each network
    lr: float = 0.02  # initial learning rate of the LSTM, with a cosine schedule
    rnn_lr: float = 0.001  # initial learning rate of the plain network, which larger steps only harm
    batch: int = 32  # sequences per step, new ones at every step
    epochs: int = 10  # epochs of 100 steps
    out: Path = Path("results/memory")  # folder for checkpoints, histories and picture.png


def time_scales(length: int, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Return an initial LSTM bias with time scales from 2 to 2T steps, log-uniformly distributed (cf. Tallec & Ollivier 2018)."""
    # A forget gate of σ(b) keeps a share of 1 - 1/T of the cell state, for T = 1 + exp(b): it forgets over about T steps.
    forget = jax.random.uniform(key, (shape[0] // 4,), dtype, 0, math.log(2 * length))
    return jnp.concatenate([-forget, forget, 0 * forget, 0 * forget])


def loss_fn(layer: jlstm.Layer, params: Any, examples: tuple, key: jax.Array | None, carry: None) -> train.Outcome:
    """Return the squared error or cross-entropy, and the share of correct answers (sums to within 0.04, as in the 1997 paper)."""
    xs, targets = examples
    ys = layer.apply(params["layer"], xs)[1][:, -SYMBOLS:] @ params["kernel"] + params["bias"]
    if ys.shape[-1] == 1:
        errors = ys[:, -1, 0] - targets
        return train.Outcome(errors**2, {"right": abs(errors) < 0.04}, carry)
    losses = optax.softmax_cross_entropy_with_integer_labels(ys, targets).mean(1)
    return train.Outcome(losses, {"right": (ys.argmax(-1) == targets).mean(1)}, carry)


def learn(name: str, layer: jlstm.Layer, lr: float, options: MemoryOptions) -> tuple[train.Result, float, Flow]:
    """Train one network. Return the result, its loss on new sequences, and its gradient flow on some of them."""
    task, outputs, _ = TASKS[options.task]
    batches, test = (Sequences(task, options.length, options.batch, seed) for seed in (options.seed, options.seed + 10**6))
    sample = next(test.epoch(0)).examples
    layer_key, kernel_key = jax.random.split(jax.random.key(options.seed))
    kernel = jax.nn.initializers.glorot_uniform()(kernel_key, (options.units, outputs))
    params = {"layer": layer.init(layer_key, sample[0].shape[-1]), "kernel": kernel, "bias": jnp.zeros(outputs)}
    rate = optax.cosine_decay_schedule(lr, options.steps or options.epochs * len(batches))
    optimizer = optax.chain(optax.clip_by_global_norm(1), optax.adam(rate))
    loss, started = partial(loss_fn, layer), time.perf_counter()
    result = replace(options, out=options.out / name.lower()).fit(loss, params, optimizer, batches)
    seconds, test_means = time.perf_counter() - started, train.evaluate(loss, result.params, test)
    print(f"{name}: test loss {test_means['loss']:.4f}, {test_means['right']:.1%} right, {seconds:.0f} s of training")
    return result, test_means["loss"], jax.jit(partial(gradient_flow, layer))(result.params["layer"], sample[0][:8])


def draw(path: Path, results: dict[str, tuple[train.Result, float, Flow]], options: MemoryOptions) -> None:
    """Save a picture: the losses of both networks over the steps, and the derivative of the last state by the state at step t."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    loss_axes, flow_axes = figure.subplots(1, 2)
    for (name, (result, *_)), line, color in zip(results.items(), ("o-", "s--"), plot.COLORS, strict=False):
        steps, losses = zip(*((record.step, record.train["loss"]) for record in result.history), strict=True)
        loss_axes.plot(steps, losses, line, color=color, markersize=4, linewidth=2, label=name)
    loss_axes.axhline(TASKS[options.task][-1], color="black", linewidth=1, linestyle=":", label="remembering nothing")
    loss_axes.set(yscale="log", xlabel="training step", title=f"Loss: {options.task}, T = {options.length}")
    loss_axes.legend()
    flows = {name: flow for name, (*_, flow) in results.items()}
    lines = {"LSTM  ‖∂c_T/∂c_t‖": flows["LSTM"].state, "RNN  ‖∂h_T/∂h_t‖": flows["RNN"].state}
    plot.flow(lines | {"LSTM, product of its forget gates": flows["LSTM"].forget}, ax=flow_axes)
    flow_axes.set_title("What of the state at step t is left at the end")
    figure.savefig(path, dpi=110)


def main(options: MemoryOptions) -> None:
    """Train both networks, compare them and save a picture."""
    if min(options.length, options.units) < 2 or min(options.lr, options.rnn_lr) <= 0:
        raise ValueError("--length and --units must be at least 2, --lr and --rnn-lr more than 0")
    options.prepare()
    bias = partial(time_scales, options.length)
    layers = {
        "LSTM": (jlstm.LSTM(options.units, forget_bias=None, bias_init=bias), options.lr),
        "RNN": (jlstm.RNN(jlstm.ElmanCell(options.units)), options.rnn_lr),
    }
    results = {name: learn(name, *layer, options) for name, layer in layers.items()}
    draw(options.out / "picture.png", results, options)
    print(f"Histories and picture are in {options.out}")
    losses = ", ".join(f"{name} {loss:.4f}" for name, (_, loss, _) in results.items())
    print(f"Test loss: {losses}, remembering nothing {TASKS[options.task][-1]:.4f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(MemoryOptions))
