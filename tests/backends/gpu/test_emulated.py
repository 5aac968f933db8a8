"""`backend="gpu"` from Python to the kernel and back, on an emulated GPU."""

import numpy as np
import pytest

import emulated_gpu
from jlstm import GRU, LSTM, explain
from problems import assert_close, cotangent_of, differentiate, flags, small_problem

BATCH, TIME = 6, 5
CASES = {  # layer, units, compute capability, multiprocessors, and whether all blocks run at the same time or as clusters
    "a warp for each sequence": (LSTM, 17, 80, 132, {"cooperative": 0, "cluster": 1}),
    "one block": (GRU, 40, 80, 132, {"cooperative": 0, "cluster": 1}),
    "a cluster": (LSTM, 120, 90, 132, {"cooperative": 0, "cluster": 8}),
    "global memory": (LSTM, 120, 80, 132, {"cooperative": 1, "cluster": 1}),
    "global memory of a small GPU": (LSTM, 120, 80, 4, {"cooperative": 1, "cluster": 1}),
}


@pytest.fixture
def emulated(driver, build_folder, standin):
    """The backend `gpu` runs on an emulated GPU."""
    with emulated_gpu.running(driver, build_folder):
        yield standin


@pytest.mark.table(quick=1)
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_equals_scan(emulated, case):
    """Values and gradients equal those of `scan`, with a mask, resets and reverse."""
    kind, units, capability, multiprocessors, expected_launch = CASES[case]
    emulated.set(log=emulated.log, capability=capability, multiprocessors=multiprocessors)
    layer = kind(units, reverse=True, backend="gpu")
    problem = small_problem(layer, batch=BATCH, time=TIME, dtype=np.float32)
    cotangent, (_, params, xs, carry) = cotangent_of(problem), problem
    sequence = {"mask": flags(0.7, batch=BATCH, time=TIME), "resets": flags(0.3, batch=BATCH, time=TIME)}
    assert str(explain(layer, params, xs, **sequence)).endswith("is run by gpu")
    results = differentiate(layer, cotangent, params, xs, carry, **sequence)
    truth = differentiate(kind(units, reverse=True, backend="scan"), cotangent, params, xs, carry, **sequence)
    scale = max(float(np.abs(leaf).max()) for leaf in (truth[0][1], truth[1][1]))
    assert_close(results, truth, atol=2e-6 * scale)
    launches = emulated.calls("cuLaunchKernelEx")
    assert len(launches) == 2  # forward and backward
    assert all(launch | expected_launch == launch for launch in launches)
