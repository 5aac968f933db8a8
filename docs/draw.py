"""Draw the pictures of the documentation into docs/pictures: python docs/draw.py.

The gallery's pictures are those that the code on its page saves. The pictures are committed, so that no build needs to draw them.
"""

import os
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jlstm import LSTM, cell_states, lengths_to_mask

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "pictures"
TIME = 8
# A forget gate and an input gate that are open, and a candidate of 0.5: each step adds 0.5 to c.
PARAMS = {
    "kernel": jnp.array([[0, 0, np.arctanh(0.5), 0]]),
    "recurrent_kernel": jnp.zeros((1, 4)),
    "bias": jnp.array([20.0, 20, 0, 20]),
}
GAP = jnp.array([[True, True, False, False, True, True, True, True]])
FOURTH = jnp.arange(TIME)[None] == 4
CALLS: dict[str, tuple[LSTM, dict[str, Any]]] = {
    "apply(params, xs)": (LSTM(1), {}),
    "lengths=[5]": (LSTM(1), {"lengths": jnp.array([5])}),
    "mask=[1, 1, 0, 0, 1, 1, 1, 1]": (LSTM(1), {"mask": GAP}),
    "resets=[0, 0, 0, 0, 1, 0, 0, 0]": (LSTM(1), {"resets": FOURTH}),
    "reverse=True, lengths=[5]": (LSTM(1, reverse=True), {"lengths": jnp.array([5])}),
}


def draw_sequences(path: Path) -> None:
    """Draw h, c and outputs of one sequence for each call: a row of numbers for each, and hatched steps that do not count."""
    figure = Figure(figsize=(8, 9.2), layout="constrained")
    for ax, (title, (layer, options)) in zip(
        figure.subplots(len(CALLS)), CALLS.items(), strict=True
    ):
        xs = jnp.ones((1, TIME, 1))
        counts = options.get(
            "mask", lengths_to_mask(options.get("lengths", jnp.array([TIME])), TIME)
        )[0]
        carry, states = cell_states(layer, PARAMS, xs, **options)
        _, ys = layer.apply(PARAMS, xs, **options)
        c = frozen(np.asarray(states.c[0, :, 0]), np.asarray(counts), layer.reverse)
        rows = {"c": c, "h": np.tanh(c), "y": np.asarray(ys[0, :, 0])}
        end = 0 if layer.reverse else -1
        np.testing.assert_allclose(
            [c[end], rows["h"][end]], [carry.c[0, 0], carry.h[0, 0]], rtol=1e-5
        )
        ax.imshow(np.stack(list(rows.values())), "Blues", aspect="auto", vmin=0, vmax=6)
        for row, values in enumerate(rows.values()):
            for step, value in enumerate(values):
                ax.text(
                    step,
                    row,
                    f"{value:.2f}".removesuffix("0"),
                    ha="center",
                    va="center",
                    fontsize=10,
                )
        spans = [(step - 0.5, 1) for step in np.flatnonzero(~np.asarray(counts))]
        ax.broken_barh(
            spans,
            (-0.5, 3),
            facecolor="none",
            edgecolor="#777777",
            hatch="////",
            linewidth=0,
            alpha=0.35,
        )
        for step in np.flatnonzero(options.get("resets", np.zeros((1, TIME)))[0]):
            ax.axvline(step - 0.5, color="#D55E00", linewidth=3)
        ax.set_yticks(range(3), ["c after the step", "h after the step", "output y"])
        ax.set_xticks(range(TIME), [f"step {step}" for step in range(TIME)])
        ax.set_title(title, family="monospace", fontsize=11, loc="left")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    figure.savefig(path, dpi=110)


def frozen(values: np.ndarray, counts: np.ndarray, is_reverse: bool) -> np.ndarray:
    """Return the state after each step. `cell_states` has zeros at steps that do not count; there, the state stays as it was."""
    result, state = np.zeros_like(values), 0.0
    for step in reversed(range(TIME)) if is_reverse else range(TIME):
        state = result[step] = values[step] if counts[step] else state
    return result


def draw_gallery() -> None:
    """Run the Python blocks of the gallery in the folder of the pictures."""
    blocks = re.findall(
        r"^```python\n(.*?)^```",
        (DOCS / "gallery.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    os.chdir(PICTURES)
    exec(compile("\n".join(blocks), "gallery.md", "exec"), {})


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    draw_sequences(PICTURES / "sequences.png")
    draw_gallery()
