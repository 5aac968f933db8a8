"""The kernel in the emulator, compiled with sanitizers: each barrier is needed, and none is missing."""

import shutil
import subprocess

import pytest

from emulated_gpu import INCLUDES
from jlstm.backends.gpu import library, plan
from jlstm.backends.gpu.plan import Gpu

pytestmark = pytest.mark.no_cover
AMPERE, HOPPER = Gpu((8, 0), 7, 166912), Gpu((9, 0), 132, 232448)
EXCHANGES = {  # units, batch and GPU, such that blocks exchange h in this way
    "warp": (32, 3, HOPPER),
    "none": (33, 5, AMPERE),
    "cluster": (112, 4, HOPPER),
    "global": (112, 4, AMPERE),
}
SANITIZERS = {"races": "thread", "addresses": "address,undefined"}
TESTS = library.HERE / "tests"


@pytest.fixture
def run(tmp_path):
    """Compile the kernel with a sanitizer, and return the process that ran it on random sequences with a mask and resets."""

    def run(exchange, direction, sanitizer, source=library.HERE / "src", cell="lstm"):
        units, batch, gpu = EXCHANGES[exchange]
        choice = plan.plan(direction, cell, units, batch, gpu)
        assert choice.macros.get("JLSTM_EXCHANGE", "kWarp") == f"k{exchange.capitalize()}"
        compiler = ["c++", "-std=c++17", "-O1", "-g", "-w", "-pthread", f"-I{source}", *INCLUDES]
        # ThreadSanitizer must not see the emulator's own data, see simt.cc.
        emulator_flags = ["-DSIMT_RACES"] if sanitizer == "thread" else [f"-fsanitize={sanitizer}"]
        subprocess.run([*compiler, *emulator_flags, "-c", TESTS / "simt.cc", "-o", tmp_path / "simt.o"], check=True)
        macros = [f"-D{name}={value}" for name, value in choice.macros.items()]
        flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-DJLSTM_EMULATED", "-DJLSTM_PROGRAM", *macros]
        program = tmp_path / "program"
        subprocess.run([*compiler, *flags, TESTS / "emulated.cc", tmp_path / "simt.o", "-o", program], check=True)
        sizes = (
            choice.blocks,
            choice.threads,
            choice.cluster,
            choice.shared_bytes,
            choice.counters,
            choice.workspace_bytes,
            batch,
        )
        # Without randomized addresses, which an older ThreadSanitizer cannot have everywhere.
        command = ["setarch", "-R", program, *map(str, sizes)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if not all(map(shutil.which, ("c++", "setarch"))):
        pytest.skip("this machine has no C++ compiler")
    return run


@pytest.mark.parametrize(
    ("exchange", "direction", "kind"),
    [
        pytest.param(exchange, direction, kind, marks=[] if (exchange, direction, kind) in QUICK else pytest.mark.slow)
        for QUICK in [{("global", "forward", "races")}]
        for exchange in EXCHANGES
        for direction in ("forward", "backward")
        for kind in SANITIZERS
    ],
)
def test_nothing_is_found(run, exchange, direction, kind):
    """There is no race, no access outside of an array, and no result that is not finite."""
    done = run(exchange, direction, SANITIZERS[kind])
    assert (done.returncode, done.stdout) == (0, "all is well\n"), done.stderr


def barriers():
    """Return the file and the position of each wait in the kernel's sources."""
    waits = ("__syncthreads();", "__syncwarp();", "wait_for_cluster();", "wait_for_copies<1>();")
    for name in ("team.cuh", "forward.cuh", "warp.cuh"):
        text = (library.HERE / "src" / name).read_text()
        places = sorted((at, wait) for wait in waits for at in _positions(text, wait))
        yield from ((name, number, at, wait) for number, (at, wait) in enumerate(places))


def _positions(text, wait):
    at = text.find(wait)
    while at >= 0:
        yield at
        at = text.find(wait, at + 1)


@pytest.mark.parametrize(
    ("name", "at", "wait"),
    [
        pytest.param(name, at, wait, id=f"{name}-{number}", marks=[] if (name, number) == ("team.cuh", 4) else pytest.mark.slow)
        for name, number, at, wait in barriers()
    ],
)
def test_a_missing_barrier_is_found(run, tmp_path, name, at, wait):
    """Without any single one of its barriers the kernel has a race, or a result that is not finite."""
    source = shutil.copytree(library.HERE / "src", tmp_path / "src")
    text = (source / name).read_text()
    (source / name).write_text(text[:at] + ";" + text[at + len(wait) :])
    exchanges = ["warp"] if name == "warp.cuh" else ["global", "cluster", "none"]
    runs = ((exchange, direction) for exchange in exchanges for direction in ("forward", "backward"))
    assert any(run(exchange, direction, "thread", source).returncode for exchange, direction in runs)
