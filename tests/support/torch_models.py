"""A PyTorch model of three modules, and every file format that PyTorch writes."""

import torch
from safetensors.torch import save_file

FEATURES, UNITS = 3, 4


def model(dtype=torch.float32):
    """Return a module with an encoder of two layers, a linear layer and a decoder."""
    torch.manual_seed(0)
    modules = {"encoder": torch.nn.LSTM(FEATURES, UNITS, 2), "head": torch.nn.Linear(2, 2), "decoder": torch.nn.GRU(2, 5)}
    return torch.nn.ModuleDict(modules).to(dtype)


def save_legacy(content, path):
    """Write the format of before PyTorch 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def without_checksums(content, path):
    """Write a zip file without checksums."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, path)
    finally:
        torch.serialization.set_crc32_options(True)


FORMATS = {
    "zip": lambda module, path: torch.save(module.state_dict(), path),
    "zip without checksums": lambda module, path: without_checksums(module.state_dict(), path),
    "before 1.6": lambda module, path: save_legacy(module.state_dict(), path),
    "safetensors": lambda module, path: save_file(module.state_dict(), path),
    "whole module": torch.save,
    "whole module before 1.6": save_legacy,
}
STATE = {f"rnn.{name}": value for name, value in torch.nn.LSTM(FEATURES, UNITS).state_dict().items()}
