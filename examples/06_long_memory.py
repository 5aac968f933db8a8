"""Remember something for a long time: an LSTM beside a plain recurrent network, and how much of a gradient comes back in each.

Adding: of T random numbers two are marked; their sum is asked for at the end. Who always says 1 has a mean squared error of 1/6.
Copy: ten symbols of eight kinds, T blanks, then the ten are asked for; who remembers nothing has a cross-entropy of ln 8.
Needs `pip install 'jlstm[examples]'` and no data.

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
from memory_tasks import KINDS, SYMBOLS, Sequences, adding, copy
from options import Options, one_sentence

import jlstm
from jlstm import plot, train
from jlstm.inspect import Flow, gradient_flow

TASKS = {  # what makes the sequences, the number of outputs, the loss of who remembers nothing
    "adding": (adding, 1, 1 / 6),
    "copy": (copy, KINDS, math.log(KINDS)),
}


@dataclass(frozen=True)
class MemoryOptions(Options):
    """Train an LSTM and a plain recurrent network to remember; save a picture of learning and of gradients through time."""

    task: Literal["adding", "copy"] = "adding"  # what to learn
    length: int = 100  # T: numbers of a sequence (adding), or blanks between showing and asking (copy)
    units: int = 64  # of either network
    lr: float = 0.02  # learning rate of the LSTM at the beginning; it falls along a cosine
    rnn_lr: float = 0.001  # of the plain network, which large steps only harm
    batch: int = 32  # sequences a step, new ones each time
    epochs: int = 10  # a hundred steps each
    out: Path = Path("results/memory")  # folder for checkpoints, histories and picture.png


def time_scales(length: int, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """First bias of an LSTM whose units forget in 2 to 2T steps, evenly on a logarithmic scale (cf. Tallec & Ollivier 2018)."""
    forget = jax.random.uniform(key, (shape[0] // 4,), dtype, 0, math.log(2 * length))
    return jnp.concatenate([-forget, forget, 0 * forget, 0 * forget])


def loss_fn(layer: jlstm.Layer, params: Any, examples: tuple, key: jax.Array | None, carry: None) -> train.Outcome:
    """Squared error or cross-entropy, and the share of right answers; a sum is right to 0.04, as in 1997."""
    xs, wanted = examples
    ys = layer.apply(params["layer"], xs)[1][:, -SYMBOLS:] @ params["kernel"] + params["bias"]
    if ys.shape[-1] == 1:
        errors = ys[:, -1, 0] - wanted
        return train.Outcome(errors**2, {"right": abs(errors) < 0.04}, carry)
    losses = optax.softmax_cross_entropy_with_integer_labels(ys, wanted).mean(1)
    return train.Outcome(losses, {"right": (ys.argmax(-1) == wanted).mean(1)}, carry)


def learn(name: str, layer: jlstm.Layer, lr: float, options: MemoryOptions) -> tuple[train.Result, float, Flow]:
    """Train one network; return the result, its loss on sequences it has not seen, and how gradients flow back through them."""
    task, outputs, _ = TASKS[options.task]
    batches, test = (Sequences(task, options.length, options.batch, seed) for seed in (options.seed, options.seed + 10**6))
    sample = next(test.epoch(0)).examples
    key, another = jax.random.split(jax.random.key(options.seed))
    kernel = jax.nn.initializers.glorot_uniform()(another, (options.units, outputs))
    params = {"layer": layer.init(key, sample[0].shape[-1]), "kernel": kernel, "bias": jnp.zeros(outputs)}
    rate = optax.cosine_decay_schedule(lr, options.steps or options.epochs * len(batches))
    optimizer = optax.chain(optax.clip_by_global_norm(1), optax.adam(rate))
    loss, started = partial(loss_fn, layer), time.perf_counter()
    result = replace(options, out=options.out / name.lower()).fit(loss, params, optimizer, batches)
    seconds, measured = time.perf_counter() - started, train.evaluate(loss, result.params, test)
    print(f"{name}: test loss {measured['loss']:.4f}, {measured['right']:.1%} right, {seconds:.0f} s of training")
    return result, measured["loss"], jax.jit(partial(gradient_flow, layer))(result.params["layer"], sample[0][:8])


def draw(path: Path, results: dict[str, tuple[train.Result, float, Flow]], options: MemoryOptions) -> None:
    """Save the picture: the losses of both by step, and how much of a change of the state at t arrives at the end."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, (result, *_)), line, colour in zip(results.items(), ("o-", "s--"), plot.COLOURS, strict=False):
        steps, losses = zip(*((record.step, record.train["loss"]) for record in result.history), strict=True)
        left.plot(steps, losses, line, color=colour, markersize=4, linewidth=2, label=name)
    left.axhline(TASKS[options.task][-1], color="black", linewidth=1, linestyle=":", label="remembering nothing")
    left.set(yscale="log", xlabel="training step", title=f"Loss: {options.task}, T = {options.length}")
    left.legend()
    flows = {name: flow for name, (*_, flow) in results.items()}
    lines = {"LSTM  ‖∂c_T/∂c_t‖": flows["LSTM"].state, "RNN  ‖∂h_T/∂h_t‖": flows["RNN"].state}
    plot.flow(lines | {"LSTM, product of its forget gates": flows["LSTM"].forget}, ax=right)
    right.set_title("What of the state at step t is left at the end")
    figure.savefig(path, dpi=110)


def main(options: MemoryOptions) -> None:
    """Train both, compare, draw."""
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
