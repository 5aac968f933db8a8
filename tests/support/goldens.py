"""Expected values from other projects' tests, from `goldens` in the data folder. Its README describes the arrays."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jlstm import RNN, Bidirectional, GRUCell, LSTMCarry, LSTMCell, SLSTMCell
from jlstm.cells import HiddenCarry
from jlstm.cells.lstm import GATE_NAMES

FOLDER = Path(os.environ.get("JLSTM_DATA", "no data folder")) / "goldens"


class Golden(NamedTuple):
    """One case: its options, its tolerance and its arrays."""

    name: str
    options: dict[str, Any]
    tolerance: dict[str, float]
    arrays: dict[str, np.ndarray]

    def layers(self):
        """Return each layer with its parameters and initial carry, the lowest layer first."""
        return [self._layer_at(number) for number in range(self.options.get("num_layers", 1))]

    def _layer_at(self, number):
        directions = self.options.get("directions", ["forward"])
        cells = [self._cell(f"w/L{number}D{d}/", self.arrays) for d in range(len(directions))]
        carries = [self._carry(number, d) for d in range(len(directions))]
        if len(directions) == 1:
            (cell, params), (carry,) = cells[0], carries
            return RNN(cell, reverse=directions[0] == "reverse"), params, carry
        layer = Bidirectional(RNN(cells[0][0]), merge=self.options.get("merge", "concat"))
        params, carry = (
            {"forward": forward, "backward": backward} for forward, backward in ([params for _, params in cells], carries)
        )
        return layer, params, None if carries[0] is None else carry

    def _carry(self, number, d):
        if "in/h0" not in self.arrays:
            return None
        h = self.arrays["in/h0"][number, d]
        if self.options.get("cell") == "gru":
            return HiddenCarry(h)
        return LSTMCarry(h, self.arrays["in/c0"][number, d] if "in/c0" in self.arrays else np.zeros_like(h))

    def parameters_like(self, kind, number=0, d=0):
        """Return our parameters from arrays under another prefix, such as `grad/`."""
        return self._cell(f"{kind}/L{number}D{d}/", self.arrays)[1]

    def _cell(self, start, arrays):
        w = {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
        kind = self.options.get("cell", "lstm")
        return {"gru": gru, "slstm": slstm}[kind](w) if kind != "lstm" else self._lstm(w)

    def _lstm(self, w):
        norm = self.options.get("layer_norm", {})
        coupled = self.options.get("coupling")
        names = GATE_NAMES[coupled]
        gates = ["ifgo".index(name) for name in names]
        peeping = ["ifo".index(name) for name in names if name != "g"]

        def columns(a):
            return np.concatenate([a[gate] for gate in gates], -1)

        params = {"kernel": columns(w["W"]), "recurrent_kernel": columns(w["U"])}
        if "b" in w:
            params["bias"] = columns(w["b"])
        if "p" in w:
            params["peephole_kernel"] = w["p"][peeping]
        if "Wp" in w:
            params["projection_kernel"] = w["Wp"]
        if "bp" in w:
            params["projection_bias"] = w["bp"]
        params |= norms(w, columns, norm.get("scheme"))
        functions = {
            ours: self.options[theirs]["name"]
            for ours, theirs in (
                ("recurrent_activation", "act_gate"),
                ("activation", "act_cand"),
                ("output_activation", "act_out"),
            )
            if theirs in self.options
        }
        cell = LSTMCell(
            w["U"].shape[-1],
            use_bias="bias" in params,
            peephole="p" in w,
            projection=w["Wp"].shape[-1] if "Wp" in w else None,
            projection_bias="bp" in w,
            projection_clip=self.options.get("proj_clip"),
            cell_clip=self.options.get("cell_clip"),
            gate_clip=self.options.get("preact_clip"),
            coupled=coupled,
            layer_norm=norm.get("scheme"),
            layer_norm_epsilon=norm.get("eps"),
            **functions,
        )
        return cell, params


def load():
    """Return every golden file with its layer options, tolerance and arrays."""
    if not FOLDER.is_dir():
        return []
    cases = []
    for case in json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))["cases"]:
        with np.load(FOLDER / f"{case['name']}.npz", allow_pickle=False) as arrays:
            cases.append(Golden(case["name"], case["options"], case["tolerance"], dict(arrays)))
    return cases


def norms(w, columns, scheme):
    """Return the parameters of a layer normalization scheme."""
    if scheme in ("ba2016", "addons"):
        sums = {ours: {"scale": columns(w[f"{theirs}_gain"]), "offset": columns(w[f"{theirs}_bias"])} for ours, theirs in SUMS}
        return sums | {"state_norm": {"scale": w["lnc_gain"], "offset": w["lnc_bias"]}}
    if scheme == "tf_contrib":
        state = {"scale": w["ln_gain"][4], "offset": w["ln_bias"][4]}
        return {"gate_norm": {"scale": columns(w["ln_gain"])}, "bias": columns(w["ln_bias"][:4]), "state_norm": state}
    return {"gate_norm": {"scale": columns(w["ln_gain"])}} if scheme else {}


SUMS = (("kernel_norm", "lnx"), ("recurrent_norm", "lnh"))


def gru(w):
    """Return a GRU cell and its parameters. The file's gates are r, z, n; ours are z, r, g."""
    w = {name: np.concatenate([value[1], value[0], value[2]], -1) for name, value in w.items()}
    return GRUCell(len(w["U"]), reset_after=False), {"kernel": w["W"], "recurrent_kernel": w["U"], "bias": w["b"]}


def slstm(w):
    """Return an sLSTM cell and its parameters. The gates have the same order as ours."""
    w = {name: np.concatenate(list(value), -1) for name, value in w.items()}
    return SLSTMCell(len(w["U"])), {"kernel": w["W"], "recurrent_kernel": w["U"][None], "bias": w["b"]}
