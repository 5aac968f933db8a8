"""Kernels are compiled for their plan and the GPU, by NVRTC, and a sentence says what is wrong or missing."""

import _ctypes
import ctypes
import importlib.machinery
import time
from pathlib import Path

import pytest

from jlstm.backends.gpu import cache, compiler, nvrtc
from jlstm.backends.gpu.plan import Gpu, Plan

H200 = Gpu((9, 0), 132, 232448)
PLAN = Plan(4, 32, 1, False, 0, 2, 0, 0, {"JLSTM_UNITS": "10"})
SOURCE = '#include "number.h"\nextern "C" __global__ void jlstm_kernel(float* x) { x[threadIdx.x] *= NUMBER * FACTOR; }'
HEADERS = {"number.h": "#define NUMBER 2.f"}


@pytest.fixture
def installed():
    """The NVRTC of this machine."""
    try:
        return nvrtc.load()
    except nvrtc.CompilationError as error:
        pytest.skip(f"the extra peers is not installed: {error}")


class Recorder:
    """A compiler that records what it is asked for."""

    version, architectures = (12, 9), (80, 86, 90, 100, 103, 120)

    def __init__(self):
        self.calls = []

    def compile(self, name, source, headers, options):
        self.calls.append((name, source, headers, options))
        return nvrtc.Compiled(b"a kernel", "")


@pytest.fixture
def recorder(monkeypatch, tmp_path):
    """A recording compiler in the place of NVRTC."""
    recorder = Recorder()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(nvrtc, "load", lambda newest: recorder)
    monkeypatch.setattr(compiler.library, "cuda_version", lambda: (12, 9))
    return recorder


def test_a_kernel_is_compiled_with_the_macros_of_its_plan(recorder):
    """The source comes with all headers that it includes, and the options name the GPU."""
    path = compiler.kernel("lstm variant", "backward", PLAN, H200, 10)
    assert path.name.startswith("lstm_variant-backward-10-")
    assert path.read_bytes().startswith(b"a kernel")
    ((name, source, headers, options),) = recorder.calls
    assert name == "recurrence.cu"
    assert "jlstm_kernel" in source
    assert {"arguments.h", "vector.h", "cells.h", "gates.h"} <= set(headers)
    assert not {"driver.h", "calls.h", "recurrence.cu"} & set(headers)
    assert options == ["--gpu-architecture=sm_90", "--std=c++17", "-default-device", "-DJLSTM_UNITS=10"]


def test_a_kernel_is_compiled_once(recorder):
    """It is kept in the process, and on disk for other processes."""
    path = compiler.kernel("lstm", "forward", PLAN, H200, 10)
    assert compiler.kernel("lstm", "forward", PLAN, H200, 10) == path
    assert compiler.kernel("lstm", "forward", PLAN, H200, 10) == path
    assert len(recorder.calls) == 1


def test_whatever_changes_a_kernel_changes_its_file(recorder, monkeypatch):
    """Macros, the GPU, the version of NVRTC and the sources are parts of the file's name."""
    paths = [compiler.kernel("lstm", "forward", PLAN, H200, 10)]
    paths.append(compiler.kernel("lstm", "forward", PLAN._replace(macros={"JLSTM_UNITS": "11"}), H200, 10))
    paths.append(compiler.kernel("lstm", "forward", PLAN, H200._replace(capability=(8, 6)), 10))
    recorder.version = (12, 8)
    paths.append(compiler.kernel("lstm", "forward", PLAN, H200, 10))
    sources = compiler.sources() | {"arguments.h": "// changed"}
    monkeypatch.setattr(compiler, "sources", lambda: sources)
    paths.append(compiler.kernel("lstm", "forward", PLAN, H200, 10))
    assert len(set(paths)) == len(recorder.calls) == 5


@pytest.mark.parametrize(
    ("capability", "flag"),
    [((8, 0), "sm_80"), ((8, 6), "sm_86"), ((8, 9), "sm_86"), ((9, 0), "sm_90"), ((10, 3), "sm_103"), ((12, 1), "sm_120")],
)
def test_the_nearest_older_gpu_of_the_same_kind_is_compiled_for(capability, flag):
    """NVRTC may be older than the GPU, which runs code for lower minor versions of its compute capability."""
    assert compiler.options(Recorder.architectures, {}, capability)[0] == f"--gpu-architecture={flag}"


def test_a_gpu_that_is_too_new_is_said(recorder):
    """One sentence says what to do."""
    sentence = r"^NVRTC is too old for a GPU of compute capability 13\.0: install a newer one$"
    with pytest.raises(compiler.CompilationError, match=sentence):
        compiler.kernel("lstm", "forward", PLAN, H200._replace(capability=(13, 0)), 10)


def test_unreadable_sources_are_said(recorder, monkeypatch):
    """One sentence says what failed."""
    monkeypatch.setattr(compiler, "sources", lambda: (_ for _ in ()).throw(PermissionError(13, "Permission denied", "cells.h")))
    with pytest.raises(compiler.CompilationError, match=r"the kernel cannot be compiled: .*Permission denied: 'cells.h'"):
        compiler.kernel("lstm", "forward", PLAN, H200, 10)


def test_nvrtc_compiles(installed):
    """The result is an ELF file for the GPU. It takes less than two seconds, and needs no GPU."""
    start = time.perf_counter()
    options = compiler.options(installed.architectures, {"FACTOR": "3.f"}, (9, 0))
    cubin, log = installed.compile("x.cu", SOURCE, HEADERS, [*options, "--ptxas-options=-v"])
    assert time.perf_counter() - start < 2
    assert cubin.startswith(b"\x7fELF")
    assert "jlstm_kernel" in log
    assert "registers" in log


def test_an_error_in_the_source_is_one_sentence(installed):
    """The first error of the compiler is in it."""
    version = ".".join(map(str, installed.version))
    sentence = rf"^NVRTC {version} cannot compile the kernel: x\.cu\(2\): .*error: identifier \"FACTOR\" is undefined$"
    with pytest.raises(nvrtc.CompilationError, match=sentence):
        installed.compile("x.cu", SOURCE, HEADERS, ["--gpu-architecture=sm_90"])
    with pytest.raises(nvrtc.CompilationError, match=rf"^NVRTC {version} cannot compile the kernel: .*invalid value"):
        installed.compile("x.cu", SOURCE, HEADERS, ["--gpu-architecture=sm_1"])


def test_all_supported_gpus_are_known(installed):
    """From Ampere to Blackwell."""
    assert {80, 86, 90, 100, 120} <= set(installed.architectures)


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """A folder for packages of CUDA, on a machine without another NVRTC."""

    def open_file(path):
        if not Path(path).is_absolute():
            raise OSError(f"{path} is not installed")
        return open_library(path)

    open_library = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", open_file)
    spec = importlib.machinery.ModuleSpec("nvidia", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(nvrtc, "find_spec", lambda name: spec)
    nvrtc.load.cache_clear()
    yield tmp_path
    nvrtc.load.cache_clear()


def test_the_newest_nvrtc_that_the_driver_can_use_is_taken(packages):
    """The packages of CUDA 12 and 13 have different layouts. Then come the libraries of the system."""
    for path in ("cuda_nvrtc/lib/libnvrtc.so.12", "cu13/lib/libnvrtc.so.13"):
        (packages / path).parent.mkdir(parents=True)
        (packages / path).touch()
    old, new = str(packages / "cuda_nvrtc/lib/libnvrtc.so.12"), str(packages / "cu13/lib/libnvrtc.so.13")
    assert list(nvrtc._candidates(13)) == [new, old, "libnvrtc.so.13", "libnvrtc.so.12"]
    assert list(nvrtc._candidates(12)) == [old, "libnvrtc.so.12"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "install nvidia-cuda-nvrtc-cu12 for CUDA 12, or nvidia-cuda-nvrtc for CUDA 13$"), (b"damaged", ".*libnvrtc.so.13: ")],
)
def test_a_missing_or_damaged_nvrtc_is_one_sentence(packages, content, sentence):
    """The sentence says what to install, or which file cannot be loaded."""
    if content:
        (packages / "cu13" / "lib").mkdir(parents=True)
        (packages / "cu13" / "lib" / "libnvrtc.so.13").write_bytes(content)
    with pytest.raises(nvrtc.CompilationError, match=f"^NVRTC, which compiles the kernel, cannot be loaded: {sentence}"):
        nvrtc.load()


def test_an_old_nvrtc_is_one_sentence(packages, monkeypatch):
    """A library without a function of NVRTC is not one."""
    monkeypatch.setattr(nvrtc, "_candidates", lambda newest: [_ctypes.__file__])
    with pytest.raises(nvrtc.CompilationError, match=r"cannot be loaded: .* is too old: .*nvrtcGetErrorString"):
        nvrtc.load()


def test_a_failing_nvrtc_is_one_sentence(installed):
    """A function of NVRTC that fails is named."""
    with pytest.raises(nvrtc.CompilationError, match=r"^NVRTC fails in nvrtcGetProgramLogSize: NVRTC_ERROR_INVALID_PROGRAM$"):
        installed._output("nvrtcGetProgramLog", ctypes.c_void_p())
