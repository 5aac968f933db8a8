"""How the kernel runs on a GPU."""

from typing import NamedTuple


class Gpu(NamedTuple):
    """A GPU, as far as plans depend on it."""

    capability: tuple[int, int]  # the compute capability
    multiprocessors: int
    shared_bytes: int  # the shared memory that a block may have


class Plan(NamedTuple):
    """How a run is spread over a GPU.

    Attributes:
        blocks: the blocks of a launch.
        threads: the threads of a block.
        cluster: the blocks of a cluster; 1 without clusters.
        cooperative: whether all blocks must run at the same time.
        shared_bytes: the dynamic shared memory of a block.
        workspace_bytes: the memory that the blocks share: the counters, filled up to 128 bytes, and what they exchange.
        counters: how many counters of 32 bits there are.
        rows: the rows of the batch that one launch runs.
        macros: what the kernel is compiled for.
    """

    blocks: int
    threads: int
    cluster: int
    cooperative: bool
    shared_bytes: int
    workspace_bytes: int
    counters: int
    rows: int
    macros: dict[str, str]
