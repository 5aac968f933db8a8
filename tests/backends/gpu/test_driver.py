"""What can be wrong with a CUDA driver, a GPU or a launch is said in one sentence, and nothing crashes."""

import ctypes
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import emulated_gpu
import jlstm
from jlstm.backends.gpu import library
from jlstm.backends.gpu.plan import Gpu
from jlstm.backends.native import libraries
from jlstm.backends.native.columns import attributes

KERNEL = """
#include <cstddef>
#include "arguments.h"
extern "C" bool jlstm_emulate(unsigned blocks, unsigned, unsigned, size_t, void** parameters) {
  const auto& a = *static_cast<const jlstm::Arguments*>(parameters[0]);
  for (int i = 0; i < a.batch; ++i) a.h[i] = 2 * a.h0[i];
  return blocks != 7;
}
"""
FORKS = """
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1])
library.jlstm_gpu_open.restype = library.jlstm_gpu_describe.restype = ctypes.c_char_p
numbers = (ctypes.c_int * 4)()
before = os.fork()  # this process does not use CUDA before
if before == 0:
    os._exit(bool(library.jlstm_gpu_open(sys.argv[2].encode()) or library.jlstm_gpu_describe(0, numbers)))
assert os.waitpid(before, 0)[1] == 0
assert library.jlstm_gpu_open(sys.argv[2].encode()) == b""
after = os.fork()
if after == 0:
    print(library.jlstm_gpu_describe(0, numbers).decode(), flush=True)
    os._exit(0)
assert os.waitpid(after, 0)[1] == 0
assert library.jlstm_gpu_describe(0, numbers) == b""
"""


@pytest.fixture(autouse=True)
def emulated(driver, standin):
    """Calls of this file run on the stand-in, whose settings each test begins anew."""
    with emulated_gpu.installed(driver):
        standin.set()
        yield standin


@pytest.fixture
def kernel(build_folder, tmp_path):
    """The file of a kernel: h is twice the initial h. It fails if it has seven blocks."""
    (tmp_path / "twice.cc").write_text(KERNEL)
    compiled = emulated_gpu.compile_library(build_folder / "twice.so", tmp_path / "twice.cc")
    file = tmp_path / "twice"  # a path of its own for each test, so that each test loads it
    file.write_bytes(bytes(compiled) + b"\0")
    return file


def run(kernel, **plan):
    """Call the kernel with one unit, two sequences and one step, and return h."""
    return np.asarray(program(kernel, **plan)()[1])


def program(kernel, **plan):
    """Return a compiled program that calls the kernel."""
    plan = {"blocks": 4, "threads": 32, "cluster": 1, "shared_bytes": 0, "counters": 0, "rows": 2} | plan
    options = attributes(jlstm.LSTMCell(1), reverse=False) | {"cooperative": False, "kernel": str(kernel)}
    options |= {name: np.int32(value) if type(value) is int else value for name, value in plan.items()}
    shapes = [(1, 2, 64), (1, 4), (0, 0), (2, 1), (2, 1)]
    operands = [*(np.ones(shape, np.float32) for shape in shapes), np.zeros((0, 0), bool), np.zeros((0, 0), bool)]
    results = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((1, 2, 1), (2, 1), (2, 1))]
    function = jax.ffi.ffi_call("jlstm_gpu_forward", [*results, jax.ShapeDtypeStruct((0,), np.uint8)])
    return jax.jit(lambda: function(*operands, **options)).lower().compile()


def test_a_gpu_is_described(emulated):
    """The compute capability, the multiprocessors and the shared memory are those of the GPU."""
    emulated.set(capability=86, multiprocessors=82, shared_bytes=101376, version=12090)
    assert library.obstacle() == ""
    assert library.gpu() == Gpu((8, 6), 82, 101376)
    assert library.cuda_version() == (12, 9)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cuInit": 2}, "the CUDA driver does not start: out of memory (CUDA_ERROR_OUT_OF_MEMORY)"),
        ({"gpus": 0}, "the CUDA driver sees no GPU"),
        ({"version": 11080}, "the CUDA driver is for CUDA 11.8: install driver 525 or a newer one, which has CUDA 12"),
        ({"capability": 75}, "the GPU has compute capability 7.5, and the kernel needs 8.0"),
        ({"cuDeviceGet": 101}, "the GPU cannot be queried: error 101 (CUDA_ERROR_OF_STANDIN)"),
    ],
    ids=str,
)
def test_an_unusable_driver_or_gpu_is_an_obstacle(emulated, settings, sentence):
    """One sentence says what is wrong."""
    emulated.set(**settings)
    assert library.obstacle() == sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("libnothing.so.1", "the CUDA driver cannot be opened: libnothing.so.1: cannot open shared object file"),
        ("libc.so.6", "the CUDA driver has no function cuGetErrorName: install driver 525 or a newer one"),
    ],
)
def test_a_missing_or_old_driver_is_an_obstacle(monkeypatch, name, sentence):
    """Without libcuda, or with one that lacks a function, one sentence says so."""
    monkeypatch.setattr(library, "DRIVER", name)
    assert library.obstacle().startswith(sentence)


def test_a_library_that_was_not_built_is_an_obstacle(monkeypatch):
    """The sentence of `load` is that of `obstacle`."""
    monkeypatch.setattr(library, "load", lambda: library.Library(None, libraries.NOT_BUILT))
    assert library.obstacle() == libraries.NOT_BUILT


def test_different_gpus_are_an_obstacle(emulated, monkeypatch):
    """A program is compiled for all GPUs of JAX at once."""
    emulated.set(gpus=2, capability1=80)
    monkeypatch.setattr(library, "_devices", lambda: [0, 1])
    assert library.obstacle().startswith("the GPUs differ, and the kernel is compiled for one kind")


def test_jax_without_gpus_is_an_obstacle(monkeypatch):
    """Where JAX computes on processors only, the kernel is not for it."""
    monkeypatch.setattr(library, "_devices", lambda: jax.local_devices(backend="absent"))
    assert library.obstacle().startswith("JAX computes on no GPU: ")


@pytest.mark.parametrize("state", ["missing", "damaged", "of other sources"])
def test_an_unusable_library_is_no_error(tmp_path, state):
    """One sentence says why there is none."""
    if state == "damaged":
        (tmp_path / library.NAME).write_bytes(b"not a library")
    elif state == "of other sources":
        shutil.copy(library.load().functions._name, tmp_path)
    sentences = {
        "missing": "no kernel was built: install jlstm again on a machine with a C++ compiler",
        "damaged": f"the kernel in {tmp_path} could not be loaded: ",
        "of other sources": f"the kernel in {tmp_path} was built from other sources: install jlstm again",
    }
    loaded = library.find((tmp_path,), "0" * 64)
    assert loaded.functions is None
    assert loaded.reason.startswith(sentences[state])


@pytest.mark.parametrize(
    ("settings", "plan", "sentence"),
    [
        (
            {"cuModuleLoadData": 2},
            {},
            r"^RESOURCE_EXHAUSTED: jlstm's kernel: the compiled kernel .* cannot be loaded: out of mem",
        ),
        ({"cuLaunchKernelEx": 701}, {}, "jlstm's kernel: the kernel could not be launched: error 701"),
        ({}, {"blocks": 7}, "jlstm's kernel: the kernel could not be launched: error 719"),
        ({"cuStreamGetCtx": 201}, {}, "jlstm's kernel: the GPU's context is not known: error 201"),
        (
            {"multiprocessors": 3},
            {"cooperative": True},
            "jlstm's kernel: the kernel needs 4 blocks at the same time, and the GPU has room for 3",
        ),
        (
            {"multiprocessors": 6},
            {"cooperative": True, "cluster": 4, "blocks": 8},
            "jlstm's kernel: the kernel needs 8 blocks at the same time, and the GPU has room for 4",
        ),
        ({"shared_bytes": 99}, {"shared_bytes": 100}, "jlstm's kernel: the GPU has less than 100 bytes of shared memory"),
    ],
    ids=str,
)
def test_a_failing_launch_is_one_sentence(emulated, kernel, settings, plan, sentence):
    """The error of the driver is an error of JAX. The next call works, if nothing is wrong any more."""
    assert library.obstacle() == ""
    emulated.set(**settings)
    with pytest.raises(jax.errors.JaxRuntimeError, match=sentence):
        run(kernel, **plan)
    emulated.set()
    np.testing.assert_array_equal(run(kernel), [[2], [2]])


def test_blocks_that_wait_for_nobody_may_be_more_than_fit(emulated, kernel):
    """Only blocks that run at the same time must fit on the GPU."""
    assert library.obstacle() == ""
    emulated.set(multiprocessors=3)
    np.testing.assert_array_equal(run(kernel, blocks=100), [[2], [2]])


@pytest.mark.parametrize("content", [None, b"", b"not a kernel\0"])
def test_a_missing_or_damaged_kernel_is_one_sentence(kernel, content):
    """The file of a compiled kernel may be deleted while a program is in use."""
    assert library.obstacle() == ""
    if content is None:
        kernel.unlink()
    else:
        kernel.write_bytes(content)
    sentence = rf"the compiled kernel {kernel} cannot be (read: compile the program again|loaded: error 200)"
    with pytest.raises(jax.errors.JaxRuntimeError, match=sentence):
        run(kernel)


def test_a_kernel_is_loaded_once_in_each_context(emulated, kernel):
    """Several GPUs have a context each."""
    assert library.obstacle() == ""
    emulated.set(log=emulated.log, contexts=2)
    for _ in range(4):
        run(kernel)
    assert sorted(call["context"] for call in emulated.calls("cuModuleLoadData")) == [0, 1]
    assert len(emulated.calls("cuLaunchKernelEx")) == 4


def test_gpus_load_kernels_at_the_same_time(emulated, kernel):
    """A GPU that waits for another one while it loads a kernel does not keep that from loading its own."""
    assert library.obstacle() == ""
    emulated.set(contexts=2, loading_together=2)
    programs = []
    for device in jax.devices("cpu")[:2]:
        with jax.default_device(device):
            programs.append(program(kernel))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda compiled: np.asarray(compiled()[1]), programs))
    np.testing.assert_array_equal(results, np.full((2, 2, 1), 2))


def test_several_threads_load_a_kernel_once(emulated, kernel):
    """Threads that call a kernel at the same time share it, and leave no context behind."""
    assert library.obstacle() == ""
    emulated.set(log=emulated.log, load_milliseconds=50)
    programs = []
    for device in jax.devices("cpu"):  # a device runs one program at a time
        with jax.default_device(device):
            programs.append(program(kernel))
    with ThreadPoolExecutor(len(programs)) as pool:
        results = list(pool.map(lambda compiled: np.asarray(compiled()[1]), programs))
    np.testing.assert_array_equal(results, np.full((len(programs), 2, 1), 2))
    assert len(emulated.calls("cuModuleLoadData")) == 1
    assert len(emulated.calls("cuCtxPushCurrent_v2")) == len(emulated.calls("cuCtxPopCurrent_v2"))


def test_a_forked_process_is_told_so(driver, tmp_path):
    """CUDA does not survive a fork, unless it is used only after it."""
    command = [sys.executable, "-c", FORKS, library.load().functions._name, driver]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == 'CUDA does not work in a process that was forked after its first use: start processes with "spawn"\n'


def test_calls_before_the_driver_is_opened_are_refused():
    """A library that was just loaded says what it misses."""
    code = "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).jlstm_gpu_describe; f.restype = ctypes.c_char_p; print(f(0, None))"
    command = [sys.executable, "-c", code, library.load().functions._name]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == "b'the CUDA driver has not been opened'\n"
    )


@pytest.mark.parametrize("name", sorted(library.TARGETS.values()))
def test_handlers_are_exported(name):
    """The functions that XLA calls can be looked up in the library."""
    assert library.load().functions[name]


def test_the_library_has_no_link_to_cuda():
    """It can be loaded on every machine."""
    functions = ctypes.CDLL(library.load().functions._name)
    assert libraries.call_text_function(functions, "jlstm_gpu_sources") == libraries.sources(library.HERE)
    if shutil.which("ldd"):
        linked = subprocess.run(["ldd", functions._name], capture_output=True, text=True, check=True).stdout
        assert "cuda" not in linked
