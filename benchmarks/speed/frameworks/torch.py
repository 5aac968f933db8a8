"""PyTorch: `nn.LSTM` and `nn.GRU`, time-major, which is cuDNN's on a GPU; one step by `nn.LSTMCell`. Two biases.

By default cuDNN multiplies float32 in TF32. The variant "no TF32" does not. Errors are those against PyTorch in float64.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.job import Job, relative_error
from benchmarks.speed.points import Point, Size


def build(point: Point, setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the jobs: forward in inference mode, training by autograd without input gradients. A call packs ragged batches."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    if setting.variant == "no TF32":
        torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if setting.gpu else "cpu")
    if point.form == "matrix":
        a, b = (torch.from_numpy(factor).to(device) for factor in point.factors())
        return {"product": _job(lambda: a @ b, setting)}
    xs = torch.from_numpy(point.inputs()).to(device, getattr(torch, setting.dtype))
    if point.form == "step":
        return {"step": _job(_step(nn.LSTMCell(point.features, point.units[0]).to(xs), xs[0]), setting)}
    layers = nn.ModuleList(_layer(point, size) for size in point.layers).to(xs)
    for layer in layers:
        layer.flatten_parameters()
    lengths = torch.from_numpy(point.lengths)

    def outputs(layers: nn.ModuleList, xs: torch.Tensor) -> torch.Tensor:
        ys: Any = pack_padded_sequence(xs, lengths, enforce_sorted=False) if point.form == "ragged" else xs
        for layer in layers:
            ys, _ = layer(ys)
        return pad_packed_sequence(ys, total_length=point.time)[0] if point.form == "ragged" else ys

    def training(layers: nn.ModuleList, xs: torch.Tensor) -> Any:
        return torch.autograd.grad(torch.sum(outputs(layers, xs) ** 2), list(layers.parameters()))

    def job(function: Callable[..., Any]) -> Callable[[], Any]:
        def exact() -> Any:
            return function(copy.deepcopy(layers).cpu().double(), xs.cpu().double())

        return _job(lambda: function(layers, xs), setting, exact)

    return {"forward": job(torch.inference_mode()(outputs)), "training": job(training)}


def _layer(point: Point, size: Size) -> nn.RNNBase:
    options = {"bidirectional": size.directions == 2}
    if point.cell == "gru":
        return nn.GRU(size.features, size.units, **options)
    projected = point.hidden(size.units) if point.cell == "projection" else 0  # PyTorch's 0 means no projection
    return nn.LSTM(size.features, size.units, proj_size=projected, **options)


def _step(cell: nn.LSTMCell, x: torch.Tensor) -> Callable[[], Any]:
    h = torch.zeros(len(x), cell.hidden_size, device=x.device)
    c = torch.zeros_like(h)
    return torch.inference_mode()(lambda: cell(x, (h, c)))


def _job(function: Callable[[], Any], setting: Setting, exact: Callable[[], Any] | None = None) -> Callable[[], Any]:
    """Return a callable that calls the function and waits for its result. `exact` computes the same in float64."""

    def wait(result: Any) -> Any:
        torch.cuda.synchronize()  # kernels on a GPU run after the call has returned
        return result

    def memory() -> int:
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        wait(function())
        return torch.cuda.max_memory_allocated() - held

    def error() -> float:
        return relative_error(_arrays(function()), _arrays(exact() if exact else ()))

    return Job(function, wait, memory, error if exact else None) if setting.gpu else function


def _arrays(result: Any) -> list[Any]:
    """Return a tensor, or tensors, in float64 for NumPy."""
    tensors: Iterable[torch.Tensor] = [result] if isinstance(result, torch.Tensor) else result
    return [tensor.detach().cpu().double().numpy() for tensor in tensors]
