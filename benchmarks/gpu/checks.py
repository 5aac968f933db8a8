"""The checks: `python -m benchmarks.gpu.checks NAME…` runs them in one process, and writes a line of JSON for each.

A check returns a line with its figures, and raises an exception if it fails. References are the NumPy textbook, see `cases`, or
`scan` in float64 on the CPU.
"""

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TextIO
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu import cases
from benchmarks.gpu.cases import DIRECTIONS, FEATURES, Case, CheckError, differentiate, error, problem, verdict
from benchmarks.speed.frameworks.jitted import in_float64
from jlstm import LSTM, Stack
from jlstm.backends import gpu
from jlstm.backends.gpu import cache as disk
from jlstm.backends.gpu import library, nvrtc

UNITS = (10, 48, 128, 320)  # run by a warp, a block, a cluster and through global memory, at least on some GPUs
PRECISION = "highest"  # of the products outside the kernel, so that float32 is float32
FIRST_SECONDS, CACHED_SECONDS = 2.0, 0.05  # to compile a kernel, and to take it from the cache on disk


class Outcome(NamedTuple):
    """What a check says.

    Attributes:
        name: of the check.
        passed: whether it passes.
        line: its figures, or why it fails.
        seconds: how long it took, with compilation.
    """

    name: str
    passed: bool
    line: str
    seconds: float


def ready() -> str:
    """The kernel can run on this GPU. Describe both."""
    if reason := gpu.kernel.obstacle():
        raise CheckError(reason)
    described, driver = library.gpu(), library.cuda_version()
    versions = {"compute capability": described.capability, "driver for CUDA": driver, "NVRTC": nvrtc.load(driver[0]).version}
    words = [f"{title} {'.'.join(map(str, version))}" for title, version in versions.items()]
    sizes = f"{described.multiprocessors} multiprocessors, {described.shared_bytes} bytes of shared memory"
    return ", ".join([jax.devices()[0].device_kind, *words, sizes])


def same_bits(units: int, runs: int = 20) -> str:
    """All runs of a program give the same bits, also if many are started before the first one has ended."""
    case = Case(LSTM(units, backend="gpu"), 33, flags=True)
    arrays = problem(case)
    run = jax.jit(lambda params: differentiate(case.layer, arrays._replace(params=params)))
    results = [run(arrays.params) for _ in range(runs)]
    return _same(results, f"{runs} runs")


def threads(count: int = 8) -> str:
    """Threads that call the kernel at the same time, each with a size of its own, get the bits that they get alone."""
    layers = [LSTM(units, backend="gpu") for units in itertools.islice(itertools.cycle(UNITS), count)]
    problems = [problem(Case(layer, 3 + number), number) for number, layer in enumerate(layers)]
    runs = [jax.jit(partial(differentiate, layer)) for layer in layers]
    alone = [run(arrays) for run, arrays in zip(runs, problems, strict=True)]

    def call(run: Callable[[Any], Any], arrays: Any) -> Any:
        with jax.default_matmul_precision(PRECISION):  # that of `run` is for its own thread only
            return jax.block_until_ready(run(arrays))

    with ThreadPoolExecutor(count) as pool:
        for _ in range(10):
            together = list(pool.map(call, runs, problems))
            for pair in zip(alone, together, strict=True):
                _same(pair, "")
    return f"{count} threads, 10 calls of each, the same bits as alone"


def over_sequences() -> str:
    """`vmap` over inputs and carry gives what a larger batch does, and over weights what a loop does, also for gradients."""
    case = Case(LSTM(48, backend="gpu"), 6)
    stacked = [problem(case, seed) for seed in range(3)]

    def gradients(params: Any, xs: Any, carry: Any) -> Any:
        return jax.value_and_grad(lambda *args: jnp.sum(case.layer.apply(*args)[1] ** 2), (0, 1, 2))(params, xs, carry)

    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *(arrays[:3] for arrays in stacked))
    exact_layer = LSTM(48, backend="scan", unroll=1)

    def exact(params: Any, xs: Any, carry: Any) -> Any:
        return jax.value_and_grad(lambda *args: jnp.sum(exact_layer.apply(*args)[1] ** 2), (0, 1, 2))(params, xs, carry)

    errors = {}
    for name, axes in (("over sequences", (None, 0, 0)), ("over weights", (0, 0, 0))):
        arguments = tuple(part if axis == 0 else single for part, single, axis in zip(stack, stacked[0], axes, strict=False))
        results = jax.jit(jax.vmap(gradients, axes))(*arguments)
        errors[name] = error(jax.tree.leaves(results), in_float64(jax.vmap(exact, axes), *arguments))
    return verdict(errors)


def second_derivatives() -> str:
    """Products of the Hessian with a vector, forward over reverse and reverse over reverse."""
    arrays = problem(Case(LSTM(48, backend="gpu"), 4))
    tangent = problem(Case(LSTM(48, backend="gpu"), 4), 1).params

    def products(layer: Any) -> Callable[..., Any]:
        def gradient(params: Any, xs: Any) -> Any:
            return jax.grad(lambda params: jnp.sum(layer.apply(params, xs)[1] ** 2))(params)

        def both(params: Any, tangent: Any, xs: Any) -> Any:
            forward = jax.jvp(lambda params: gradient(params, xs), (params,), (tangent,))[1]
            return forward, jax.grad(lambda params: _dot(gradient(params, xs), tangent))(params)

        return both

    arguments = arrays.params, tangent, arrays.xs
    results = jax.jit(products(LSTM(48, backend="gpu")))(*arguments)
    exact = in_float64(products(LSTM(48, backend="scan", unroll=1)), *arguments)
    return verdict({"Hessian products": error(jax.tree.leaves(results), exact)}, tolerance=1e-5)  # three sums over all steps


def long_sequence(steps: int = 1000) -> str:
    """Values and gradients of a long sequence, run at once, and in parts inside `lax.scan`."""
    case = Case(LSTM(256, backend="gpu"), 1, time=steps)
    arrays = problem(case)

    def in_parts(layer: Any) -> Callable[..., Any]:
        def run(params: Any, xs: Any, carry: Any) -> Any:
            parts = jnp.moveaxis(xs.reshape(xs.shape[0], 4, -1, FEATURES), 1, 0)
            return jax.lax.scan(lambda carry, part: layer.apply(params, part, carry), carry, parts)

        return run

    def gradients(run: Callable[..., Any]) -> Callable[..., Any]:
        return jax.value_and_grad(lambda params, xs, carry: jnp.sum(run(params, xs, carry)[1] ** 2))

    exact = in_float64(gradients(LSTM(256, backend="scan", unroll=1).apply), *arrays[:3])
    runs = {"at once": case.layer.apply, "in parts": in_parts(case.layer)}
    errors = {name: error(jax.tree.leaves(jax.jit(gradients(run))(*arrays[:3])), exact) for name, run in runs.items()}
    return verdict(errors, f" after {steps} steps")


def several_layers() -> str:
    """A program with layers of several sizes, which XLA may run on several streams, gives the values and gradients of float64."""
    towers, exact_towers = (
        [Stack(tuple(LSTM(units, **options) for units in order)) for order in (UNITS, UNITS[::-1])]
        for options in ({"backend": "gpu"}, {"backend": "scan", "unroll": 1})
    )
    xs = np.random.default_rng(0).standard_normal((9, 12, FEATURES), np.float32)
    params = [problem(Case(tower, 9)).params for tower in towers]

    def gradients(towers: Sequence[Any]) -> Callable[..., Any]:
        def loss(params: Any, xs: Any) -> Any:
            return sum(jnp.sum(tower.apply(part, xs)[1] ** 2) for tower, part in zip(towers, params, strict=True))

        return jax.value_and_grad(loss)

    results = jax.jit(gradients(towers))(params, xs)
    exact = in_float64(gradients(exact_towers), params, xs)
    return verdict({"gradients": error(jax.tree.leaves(results), exact)}, tolerance=5e-6)  # four layers, one above the other


def nothing_to_run() -> str:
    """Without steps, and without sequences, there are no outputs, and the carry stays as it is."""
    layer = LSTM(48, backend="gpu")
    for batch, steps in ((3, 0), (0, 4)):
        case = Case(layer, 3)
        arrays = problem(case)
        xs, carry = arrays.xs[:batch, :steps], jax.tree.map(lambda leaf, batch=batch: leaf[:batch], arrays.carry)
        last, ys = jax.jit(layer.apply)(arrays.params, xs, carry)
        if ys.shape != (batch, steps, 48) or error(last, carry):
            raise CheckError(f"{batch} sequences of {steps} steps have outputs of shape {ys.shape}")
    return "no outputs, and the initial carry"


def compilation() -> str:
    """A kernel is compiled in two seconds, and comes from the cache in 50 ms."""
    ready()
    slowest = {"compiled in": 0.0, "from the cache in": 0.0}
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {disk.VARIABLE: folder}):
        for units, direction, title in itertools.product((10, 64, 128, 512), DIRECTIONS, slowest):
            gpu.kernel._compiled.cache_clear()
            started = time.perf_counter()
            kernel = gpu.kernel.compiled(direction, "lstm", units, 32)
            if isinstance(kernel, str):
                raise CheckError(kernel)
            slowest[title] = max(slowest[title], time.perf_counter() - started)
            if not kernel.path.is_relative_to(folder):
                raise CheckError(f"{kernel.path} is not in the cache")
    line = ", ".join(f"{title} {seconds:.3f} s" for title, seconds in slowest.items()) + " at most"
    if slowest["compiled in"] > FIRST_SECONDS or slowest["from the cache in"] > CACHED_SECONDS:
        raise CheckError(f"{line}; {FIRST_SECONDS} s and {CACHED_SECONDS} s are aimed at")
    return line


def _dot(tree: Any, other_tree: Any) -> Any:
    return sum(map(jnp.vdot, jax.tree.leaves(tree), jax.tree.leaves(other_tree)))


def _same(results: Sequence[Any], title: str) -> str:
    first, *others = [list(map(np.asarray, jax.tree.leaves(result))) for result in results]
    for number, leaves in enumerate(others, 2):
        for leaf, expected in zip(leaves, first, strict=True):
            if leaf.tobytes() != expected.tobytes():
                difference = np.max(np.abs(leaf - expected))
                size = f"{np.sum(leaf != expected)} numbers by at most {difference:.1e}"
                raise CheckError(f"result {number} differs from the first one, {size}")
    return f"{title}, the same bits"


READY, COMPILATION = "the kernel is ready", "compilation"
CHECKS: dict[str, Callable[[], str]] = {
    READY: ready,
    **{name: partial(cases.check, case) for name, case in cases.cases().items()},
    **{f"same bits, {units} units": partial(same_bits, units) for units in UNITS},
    "threads": threads,
    "vmap": over_sequences,
    "second derivatives": second_derivatives,
    "a long sequence": long_sequence,
    "several layers": several_layers,
    "nothing to run": nothing_to_run,
    COMPILATION: compilation,
}


def run(name: str) -> Outcome:
    """Run a check, and return whether it passed, its figures and its seconds."""
    started = time.perf_counter()
    try:
        with jax.default_matmul_precision(PRECISION):
            line, passed = CHECKS[name](), True
    except Exception as failure:  # whatever goes wrong on a GPU is the result of a check, and the others go on
        title = "" if isinstance(failure, CheckError) else f"{type(failure).__name__}: "
        line, passed = " ".join(f"{title}{failure}".split())[:500], False
    return Outcome(name, passed, line, time.perf_counter() - started)


def main(names: Sequence[str], file: TextIO) -> None:
    """Run checks and write their outcomes. Stop after a failure, which may leave the GPU unusable for this process."""
    for name in names:
        outcome = run(name)
        print(json.dumps(outcome._asdict()), flush=True, file=file)
        if not outcome.passed:
            break


if __name__ == "__main__":
    outcomes = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the outcomes
    main(sys.argv[1:], outcomes)
