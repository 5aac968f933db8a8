"""The table of compiled GPU kernels: no variant spills, and the committed table is of these sources' sizes."""

import pytest

from benchmarks import gpu_kernels
from jlstm.backends.gpu import nvrtc


@pytest.fixture
def installed():
    """Skip the test without NVRTC."""
    try:
        nvrtc.load()
    except nvrtc.CompilationError as error:
        pytest.skip(f"the extra peers is not installed: {error}")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("gpu", "size", "cell"),
    [
        ("RTX 3090", (128, 10), "gru"),
        ("H200", (1, 256), "lstm"),
        pytest.param("A100", (8, 320), "lstm variant", marks=pytest.mark.slow),
        pytest.param("B200", (16, 1024), "lstm variant", marks=pytest.mark.slow),
        pytest.param("RTX 5090", (256, 64), "lstm", marks=pytest.mark.slow),
    ],
)
def test_no_variant_spills(gpu, size, cell):
    """Forward and backward keep all that they need in registers, and fit into those of a block."""
    for row in gpu_kernels.rows({gpu: gpu_kernels.GPUS[gpu]}, (size,), (cell,)):
        assert row.spilled == 0, row
        assert 0 < row.registers * row.plan.threads <= 65536, row


def test_the_committed_table_has_no_spills():
    """The committed table names each size, and its last column is 0 throughout."""
    lines = [line.split("|") for line in gpu_kernels.RESULTS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][
        1:
    ]
    assert len(lines) == len(gpu_kernels.GPUS) * len(gpu_kernels.SIZES) * len(gpu_kernels.CELLS) * 2
    compiled = [line for line in lines if line[-2].strip()]
    assert all(line[-2].strip() == "0" for line in compiled)
    assert len(compiled) > 0.9 * len(lines)
