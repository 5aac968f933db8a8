"""Plans fit on the GPU, run the whole batch, and are what the kernel is compiled for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.backends.gpu import plan
from jlstm.backends.gpu.plan import Gpu

A100, RTX3090, H200, RTX5090 = (
    Gpu((8, 0), 108, 166912),
    Gpu((8, 6), 82, 101376),
    Gpu((9, 0), 132, 232448),
    Gpu((12, 0), 170, 101376),
)
DIRECTIONS = ("forward", "backward")


@given(
    direction=st.sampled_from(DIRECTIONS),
    units=st.integers(1, 1100),
    batch=st.integers(1, 600),
    gpu=st.sampled_from((A100, RTX3090, H200, RTX5090)),
)
def test_every_plan_fits(direction, units, batch, gpu):
    """Blocks of a cooperative launch fit on the GPU, and threads and memory in a block. All rows and units have a place."""
    choice = plan.plan(direction, "lstm", units, batch, gpu)
    if isinstance(choice, str):
        assert units > 300  # a smaller cell fits on each of these GPUs
        assert choice.startswith(f"{units} units are too many")
        return
    assert choice.threads % 32 == 0
    assert choice.threads <= 512
    assert choice.shared_bytes <= gpu.shared_bytes
    assert choice.blocks <= gpu.multiprocessors or not choice.cooperative
    assert choice.cluster == 1 or gpu.capability >= (9, 0)
    assert choice.blocks % choice.cluster == 0
    macros = {name: int(value) for name, value in choice.macros.items() if value.isdigit()}
    assert choice.threads == 32 * macros["JLSTM_WARPS"]
    if "JLSTM_WARP_A_ROW" in macros:
        assert choice.blocks * macros["JLSTM_WARPS"] >= batch
        return
    assert macros["JLSTM_SHARE"] * macros["JLSTM_GROUP"] >= units
    assert choice.rows == choice.blocks // macros["JLSTM_GROUP"] * macros["JLSTM_ROWS"]
    assert choice.rows >= batch or choice.cooperative  # else one launch runs all


@pytest.mark.parametrize(
    ("batch", "units", "gpu", "exchange"),
    [
        *((1, 16, H200, None), (1, 32, H200, None), (256, 64, H200, "kNone"), (128, 128, H200, "kCluster")),
        *((1, 256, H200, "kCluster"), (8, 320, H200, "kGlobal"), (64, 512, H200, "kGlobal"), (20, 650, H200, "kGlobal")),
        *((16, 1024, H200, "kGlobal"), (16, 64, A100, "kNone"), (16, 256, A100, "kGlobal")),
    ],
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_blocks_exchange_in_the_measured_way(batch, units, gpu, exchange, direction):
    """Few units need no exchange, more a cluster where there is one, and the most go through global memory."""
    choice = plan.plan(direction, "lstm", units, batch, gpu)
    assert choice.macros.get("JLSTM_EXCHANGE") == exchange


@pytest.mark.parametrize(("batch", "units"), [(16384, 64), (100_000, 10), (5000, 256)])
def test_large_batches_have_plans(batch, units):
    """A group has at most 64 sequences, so that a thread keeps few numbers in registers. Plans are found at once."""
    for direction in DIRECTIONS:
        choice = plan.plan(direction, "lstm", units, batch, H200)
        assert int(choice.macros.get("JLSTM_ROWS", 1)) <= 64


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_largest_promised_cell_has_a_plan(direction):
    """1,024 units at batch 16 fit on 132 multiprocessors, and large batches are run by several launches."""
    assert plan.plan(direction, "lstm", 1024, 16, H200).rows <= 16
    assert plan.plan("forward", "lstm", 1024, 16, H200).rows == 16
    assert plan.plan(direction, "lstm", 1024, 1000, H200).rows < 1000


def test_an_old_gpu_is_refused():
    """A GPU without the instructions of the kernel is named."""
    assert plan.plan("forward", "lstm", 8, 1, Gpu((7, 5), 40, 65536)) == (
        "it needs a GPU of compute capability 8.0 or newer, and this one has 7.5"
    )
