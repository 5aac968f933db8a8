"""Files of PyTorch's whose modules are not those of torch.nn, though they look alike; and files that are right."""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm


def cell(kind=nn.LSTMCell, **tensors):
    """Return the weights of a cell, and further ones below its name."""
    weights = {f"cell.{name}": tensor for name, tensor in kind(3, 4).state_dict().items()}
    return weights | {f"cell.{name.replace('__', '.')}": tensor for name, tensor in tensors.items()}


def layer(kind=nn.LSTM, **options):
    """Return the weights of a layer under the name rnn."""
    return {f"rnn.{name}": tensor for name, tensor in kind(3, 4, **options).state_dict().items()}


def without_keys(weights, *names):
    return {name: tensor for name, tensor in weights.items() if name not in names}


def renamed(weights, **names):
    return {f"cell.{names.get(name.removeprefix('cell.'), name.removeprefix('cell.'))}": value for name, value in weights.items()}


def normed(norm, name):
    module = nn.LSTM(3, 4)
    norm(module, name)
    return {f"rnn.{key}": tensor for key, tensor in module.state_dict().items()}


def norms():
    return {f"norm_{k}__{name}": torch.randn(16) for k in "xh" for name in ("weight", "bias")}


def vectors(names, size=4):
    return {name: torch.randn(size) for name in names.split()}


def by_hand(prefix="decoder"):
    """Return the weights of a GRU of three pairs of matrices."""
    return {f"{prefix}.{matrix}_{gate}": torch.randn(4, 4) for matrix in "WU" for gate in "zrh"}


def linears(prefix):
    return {f"{prefix}.{name}.weight": torch.randn(16, size) for name, size in (("x2h", 3), ("h2h", 4))}


WRONG = {
    "normalized cell": lambda: cell(**norms()),
    "normalized cell state": lambda: cell(ln__weight=torch.ones(4), ln__bias=torch.zeros(4)),
    "one bias": lambda: without_keys(cell(bias=torch.randn(16)), "cell.bias_ih", "cell.bias_hh"),
    "one of two biases": lambda: without_keys(cell(), "cell.bias_hh"),
    "peepholes": lambda: cell(**vectors("peep_i peep_f peep_o")),
    "peepholes called weight_c": lambda: cell(**vectors("weight_ci weight_cf weight_co")),
    "attention gate": lambda: cell(attention__weight=torch.randn(16, 3)),
    "zoneout": lambda: cell(zoneout_rate=torch.tensor(0.1)),
    "learned initial state": lambda: layer() | {"rnn.h0": torch.randn(1, 4), "rnn.c0": torch.randn(1, 4)},
    "GRU cell with a norm": lambda: cell(nn.GRUCell, norm__weight=torch.ones(12)),
    "weight norm": lambda: normed(parametrizations.weight_norm, "weight_hh_l0"),
    "old weight norm": lambda: normed(weight_norm, "weight_hh_l0"),
    "spectral norm": lambda: normed(spectral_norm, "weight_hh_l0"),
    "weights dropped at run time": lambda: layer() | {"rnn.weight_hh_l0_raw": torch.randn(16, 4)},
    "no projection": lambda: without_keys(layer(proj_size=2), "rnn.weight_hr_l0"),
    "backward direction without biases": lambda: without_keys(
        layer(bidirectional=True), "rnn.bias_ih_l0_reverse", "rnn.bias_hh_l0_reverse"
    ),
    "backward direction of one of two layers": lambda: {
        name: tensor for name, tensor in layer(bidirectional=True, num_layers=2).items() if "l1_reverse" not in name
    },
    "a layer left out": lambda: {name.replace("_l1", "_l2"): tensor for name, tensor in layer(num_layers=2).items()},
    "transposed": lambda: {name: tensor.T for name, tensor in cell().items() if tensor.ndim > 1},
    "independent recurrence": lambda: cell() | {"cell.weight_hh": torch.randn(4)},
    "plain RNN that does not tell its function": lambda: layer(nn.RNN),
    "plain RNN beside an LSTM": lambda: layer(nn.RNN) | cell(),
    "cell of linear layers beside an LSTM": lambda: layer() | linears("decoder.lstm"),
    "GRU by hand beside an LSTM": lambda: layer() | by_hand(),
    "norm between the gates, in a module around the cell": lambda: (
        cell()
        | layer()
        | {
            "lstm.cell.weight_ih": torch.randn(16, 3),
            "lstm.cell.weight_hh": torch.randn(16, 4),
            "lstm.norm_h.weight": torch.ones(16),
        }
    ),
}

RIGHT = {
    "LSTM with an embedding and an output": lambda: (
        layer() | {"embedding.weight": torch.randn(9, 3), "out.weight": torch.randn(2, 4)}
    ),
    "two layers, two directions": lambda: layer(num_layers=2, bidirectional=True),
    "GRU": lambda: layer(nn.GRU),
    "projection": lambda: layer(proj_size=2),
    "cell in a decoder with attention": lambda: cell() | {"attention.weight": torch.randn(4, 4), "norm.weight": torch.ones(4)},
    "output layer in a module called rnn": lambda: {
        **{f"rnn.lstm.{name}": tensor for name, tensor in nn.LSTM(3, 4).state_dict().items()},
        "rnn.out.weight": torch.randn(2, 4),
        "rnn.out.bias": torch.randn(2),
    },
}


def write(path, weights):
    """Write a file in the format of its suffix. A `.ckpt` has the weights below state_dict, as Lightning does."""
    torch.manual_seed(0)
    tensors = {name: tensor.contiguous() for name, tensor in weights().items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"epoch": 3, "state_dict": tensors} if path.suffix == ".ckpt" else tensors, path)
    return path
