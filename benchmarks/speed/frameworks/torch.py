"""PyTorch: `nn.LSTM` and `nn.GRU`, time-major, which is cuDNN's on a GPU; one step by `nn.LSTMCell`. Two biases."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.job import Job
from benchmarks.speed.points import Point


def build(point: Point, setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the jobs: forward in inference mode, training by autograd without input gradients. A call packs ragged batches."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if setting.gpu else "cpu")
    if point.form == "matrix":
        a, b = (torch.from_numpy(factor).to(device) for factor in point.factors())
        return {"product": _blocking_call(lambda: a @ b, setting)}
    xs = torch.from_numpy(point.inputs()).to(device)
    if point.form == "step":
        return {"step": _blocking_call(_step(nn.LSTMCell(point.features, point.units[0]).to(device), xs[0]), setting)}
    kind = nn.GRU if point.cell == "gru" else nn.LSTM
    layers = nn.ModuleList(kind(f, units, bidirectional=directions == 2) for f, units, directions in point.layers).to(device)
    parameters, lengths = list(layers.parameters()), torch.from_numpy(point.lengths)

    def outputs() -> torch.Tensor:
        ys: Any = pack_padded_sequence(xs, lengths, enforce_sorted=False) if point.form == "ragged" else xs
        for layer in layers:
            ys, _ = layer(ys)
        return pad_packed_sequence(ys, total_length=point.time)[0] if point.form == "ragged" else ys

    def training() -> Any:
        return torch.autograd.grad(torch.sum(outputs() ** 2), parameters)

    return {"forward": _blocking_call(torch.inference_mode()(outputs), setting), "training": _blocking_call(training, setting)}


def _step(cell: nn.LSTMCell, x: torch.Tensor) -> Callable[[], Any]:
    h = torch.zeros(len(x), cell.hidden_size, device=x.device)
    c = torch.zeros_like(h)
    return torch.inference_mode()(lambda: cell(x, (h, c)))


def _blocking_call(function: Callable[[], Any], setting: Setting) -> Callable[[], Any]:
    """Return a callable that calls the function and waits for its result."""

    def wait(result: Any) -> Any:
        torch.cuda.synchronize()  # kernels on a GPU run after the call has returned
        return result

    return Job(function, wait) if setting.gpu else function
