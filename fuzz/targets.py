"""The readers that are fuzzed, how an input becomes a file, and valid files to begin with.

An input is either a whole file, or parts of a file with SEPARATOR between them. Parts are packed with correct lengths and
checksums. Otherwise nearly all mutated files would be refused at the first length or checksum.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jlstm
from fuzz import seeds, table
from jlstm.convert import keras, onnx, tf1, torch

SEPARATOR = b"\n@part@\n"
_DATA = ".data-00000-of-00001"


class Target(NamedTuple):
    """A reader of files.

    Args:
        ending: ending of the file's name.
        read: the reader.
        seeds: a function that writes valid files into a folder.
        pack: a function that makes a file from parts.
        unpack: a function that makes parts from a valid file.
        modules: modules that are traced besides jlstm.
    """

    ending: str
    read: Callable[[Path], Any]
    seeds: Callable[[Path], None]
    pack: Callable[[Sequence[bytes]], bytes] = SEPARATOR.join
    unpack: Callable[[bytes], Sequence[bytes]] = lambda content: [content]
    modules: tuple[str, ...] = ()

    def write(self, path: Path, content: bytes) -> None:
        """Write the file of an input, or both files of a checkpoint."""
        parts = content.split(SEPARATOR)
        if self.ending == ".index":
            path.with_suffix(_DATA).write_bytes(parts.pop() if len(parts) > 1 else b"")
        path.write_bytes(self.pack(parts) if len(parts) > 1 else parts[0])

    def inputs(self, path: Path) -> list[bytes]:
        """Return the inputs that stand for a valid file: the whole file and, if it has several parts, its parts."""
        content = path.read_bytes()
        parts = list(self.unpack(content))
        if self.ending == ".index":
            parts.append(path.with_suffix(_DATA).read_bytes())
        return [content] + ([SEPARATOR.join(parts)] if len(parts) > 1 else [])


def _zip(*names: str) -> Callable[[Sequence[bytes]], bytes]:
    def pack(parts: Sequence[bytes]) -> bytes:
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
            for name, part in zip(names, parts, strict=False):
                archive.writestr(name, part)
        return buffer.getvalue()

    return pack


def _unzip(*names: str) -> Callable[[bytes], list[bytes]]:
    def unpack(content: bytes) -> list[bytes]:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [archive.read(name) for name in names if name in archive.namelist()]

    return unpack


def _pack_safetensors(parts: Sequence[bytes]) -> bytes:
    """Return the length of the header, the header, and the numbers."""
    return len(parts[0]).to_bytes(8, "little") + b"".join(parts)


def _unpack_safetensors(content: bytes) -> list[bytes]:
    size = int.from_bytes(content[:8], "little")
    return [content[8 : 8 + size], content[8 + size :]]


def _load_parameters(path: Path) -> Any:
    return jlstm.load(path, jax.eval_shape(lambda: jlstm.LSTM(1, use_bias=False).init(jax.random.key(0), 1)))


_KERAS = ("config.json", "metadata.json", "model.weights.h5")
_TORCH = ("model/data.pkl", "model/byteorder", *(f"model/data/{k}" for k in range(4)), "model/version")

TARGETS = {
    "hdf5": Target(".h5", keras.read, seeds.hdf5),
    "keras": Target(".keras", keras.read, seeds.keras, _zip(*_KERAS), _unzip(*_KERAS), ("zipfile", "json.decoder")),
    "parameters": Target(".safetensors", _load_parameters, seeds.safetensors, _pack_safetensors, _unpack_safetensors),
    "safetensors": Target(".safetensors", torch.read, seeds.safetensors, _pack_safetensors, _unpack_safetensors),
    "layer": Target(".safetensors", jlstm.load_layer, seeds.layers, _pack_safetensors, _unpack_safetensors, ("json.decoder",)),
    "onnx": Target(".onnx", onnx.read, seeds.onnx, modules=("onnx.numpy_helper", "onnx.helper")),
    "torch": Target(".pt", torch.read, seeds.torch, _zip(*_TORCH), _unzip(*_TORCH), ("pickletools", "zipfile")),
    "checkpoint": Target(".index", lambda path: tf1.read(path.with_suffix("")), seeds.checkpoint, table.pack, table.unpack),
}
