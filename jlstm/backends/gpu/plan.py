"""Which variant of the kernel runs a call on a GPU: how sequences and units are shared out among blocks and threads.

A group of blocks runs some sequences of the batch, and each block computes some of the units. All weights of a block lie in the
registers of its threads. Blocks of a group exchange h, or dz backwards, after every step: see src/team.cuh.

Among all plans that fit on the GPU, `plan` returns the one with the least estimated time for a step. The estimate counts
instructions and adds the time of the exchange. Prototypes of the kernels were measured on an H200, in µs for a step, forward, in
float32:

| units                          | 16   | 32   | 64   | 128     | 256     | 320    | 512    | 650    | 1024   |
| sequences in the batch         | 1    | 1    | 256  | 128     | 1       | 8      | 64     | 20     | 16     |
| exchange                       | warp | warp | none | cluster | cluster | global | global | global | global |
| time                           | 0.27 | 0.34 | 1.0  | 1.0     | 1.7     | 2.3    | 5.6    | 6.2    | 6.2    |

With a cluster 128 and 256 units were 1.3 to 1.6 times as fast as through global memory.
"""

import itertools
import math
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

Direction = Literal["forward", "backward"]
Exchange = Literal["none", "cluster", "global"]

PADDING = 16  # kPadding in src/arguments.h
ROWS_AT_ONCE = 4  # of product.cuh: rows are multiplied four at a time
LARGEST_CLUSTER = 8  # blocks in a cluster that every GPU with clusters supports
CLUSTER_MULTIPROCESSORS = 16  # that share out clusters: a cluster lies in one such part of a GPU
REGISTERS = 65536  # of a multiprocessor, for 32-bit numbers
MOST_WEIGHTS = 128  # in the registers of a thread
# Registers of a thread beside its weights: some, and more for each number that it computes in a step. From the compiler's report.
OTHER_REGISTERS = 72
REGISTERS_OF_NUMBER = 18
MOST_REGISTERS = 255  # of a thread
MOST_WARPS = 16  # of a block
# Cycles of a step that blocks wait for each other. They are fitted to the table above.
WAIT = {"none": 300, "cluster": 1100, "global": 3200}


class Gpu(NamedTuple):
    """What a plan needs to know of a GPU.

    Attributes:
        capability: its compute capability, for example (9, 0).
        multiprocessors: how many it has.
        shared_bytes: shared memory that a block can have, in bytes.
    """

    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int


class Plan(NamedTuple):
    """How a kernel is compiled and launched.

    Attributes:
        blocks: blocks of a launch.
        threads: threads of a block.
        cluster: blocks of a cluster; 1 if there are no clusters.
        cooperative: whether all blocks must run at the same time.
        shared_bytes: dynamic shared memory of a block.
        rows: sequences that a launch runs. A larger batch is run by several launches, one after the other.
        counters: numbers of 32 bits at the start of the workspace, zero at each launch.
        workspace_bytes: memory for the counters and for what blocks exchange.
        macros: what the kernel is compiled with.
    """

    blocks: int
    threads: int
    cluster: int
    cooperative: bool
    shared_bytes: int
    rows: int
    counters: int
    workspace_bytes: int
    macros: dict[str, str]


@cache
def plan(direction: Direction, cell: str, units: int, batch: int, gpu: Gpu) -> Plan | str:
    """Return the plan for a call, or why there is none.

    Args:
        direction: "forward" or "backward".
        cell: "lstm", "lstm variant" or "gru", the names of `columns.attributes`.
        units: units of the cell.
        batch: sequences in the batch.
        gpu: the GPU.

    Returns:
        The plan. If the GPU is too old, or the cell too large for it, a sentence that says so.
    """
    if gpu.capability < (8, 0):
        return f"it needs a GPU of compute capability 8.0 or newer, and this one has {'.'.join(map(str, gpu.capability))}"
    macros = {
        "JLSTM_CELL": {"lstm": "Lstm", "lstm variant": "LstmVariant", "gru": "Gru"}[cell],
        "JLSTM_BACKWARD": str(int(direction == "backward")),
        "JLSTM_UNITS": str(units),
    }
    if units <= 2 * PADDING:
        return _warps(direction, units, max(batch, 1), gpu, macros)
    best = min(_layouts(direction, units, max(batch, 1), gpu), key=lambda layout: layout.cycles, default=None)
    if best is None:
        return f"{units} units are too many for the registers of this GPU's {gpu.multiprocessors} multiprocessors"
    return best.plan(macros)


def _warps(direction: Direction, units: int, batch: int, gpu: Gpu, macros: dict[str, str]) -> Plan:
    """Return the plan for few units: a warp for each sequence, see src/warp.cuh."""
    padded = _round_up(units, PADDING)
    warps = 4 if batch > 8 * gpu.multiprocessors else 1  # a warp alone on a quarter of a multiprocessor is the fastest
    floats = {"forward": 2 * padded + 2 * 8 * 4 * padded, "backward": 4 * padded}[direction]  # for each warp
    macros = macros | {"JLSTM_WARP_A_ROW": "1", "JLSTM_WARPS": str(warps)}
    return Plan(
        blocks=-(-batch // warps),
        threads=32 * warps,
        cluster=1,
        cooperative=False,
        shared_bytes=4 * floats * warps,
        rows=batch,
        counters=0,
        workspace_bytes=0,
        macros=macros,
    )


class _Layout(NamedTuple):
    """A way to share out a run, which may not fit on the GPU.

    Attributes:
        direction: "forward" or "backward".
        units: units of the cell, with padding.
        gpu: the GPU.
        exchange: how the blocks of a group exchange what they computed.
        share: units of a block.
        rows: sequences of a group.
        slices: warps of a block that share a sum.
        groups: groups of a launch.
        launches: launches for the whole batch.
    """

    direction: Direction
    units: int
    gpu: Gpu
    exchange: Exchange
    share: int
    rows: int
    slices: int
    groups: int
    launches: int

    @property
    def group(self) -> int:
        """Blocks of a group. A cluster has 2, 4 or 8, which divide the GPU without a rest. Some may have no units."""
        count = -(-self.units // self.share)
        return 1 << (count - 1).bit_length() if self.exchange == "cluster" else count

    @property
    def columns(self) -> int:
        """Neighboring results of a product that each thread computes: 4 or 2."""
        return 4 if self.direction == "forward" or self.share % 16 == 0 else 2

    @property
    def results(self) -> int:
        """Results of a block: the four gates of its units, or its units."""
        return 4 * self.share if self.direction == "forward" else self.share

    @property
    def depth(self) -> int:
        """Numbers that are summed: h of all blocks, or dz of all gates and units."""
        return self.group * self.share if self.direction == "forward" else 4 * self.units

    @property
    def warps(self) -> int:
        """Warps of 32 threads in a block, which share out its results and sums."""
        return self.results // (4 * self.columns) * self.slices

    @property
    def turns(self) -> int:
        """Groups of 4 numbers of a row that each thread multiplies."""
        return -(-self.depth // (32 * self.slices))

    @property
    def weights(self) -> int:
        """Weights of a thread."""
        return 4 * self.turns * self.columns

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: the rows of the product, and the sums of the slices."""
        row = 32 * self.slices * self.turns  # `row` of Weights in src/product.cuh
        copies = 2 if self.exchange == "cluster" else 1
        return 4 * self.rows * (copies * row + self.slices * self.results)

    @property
    def fits(self) -> bool:
        """Whether a block fits on a multiprocessor, and all blocks that wait for each other on the GPU."""
        if self.results % (4 * self.columns) or not 1 <= self.warps <= MOST_WARPS:
            return False
        registers = self.weights + OTHER_REGISTERS + self.numbers * REGISTERS_OF_NUMBER
        return (
            self.weights <= MOST_WEIGHTS
            and registers <= MOST_REGISTERS
            and 32 * self.warps * registers <= REGISTERS
            and self.shared_bytes <= self.gpu.shared_bytes
            and (self.exchange != "global" or self.group * self.groups <= self.gpu.multiprocessors)
            and (self.exchange != "cluster" or self.group <= LARGEST_CLUSTER)
            and (self.exchange != "none" or self.group == 1)
        )

    @property
    def numbers(self) -> int:
        """Numbers whose functions a thread computes in each step: kNumbers in src/team.cuh."""
        return -(-self.rows * self.share // (32 * self.warps))

    @property
    def cycles(self) -> float:
        """An estimate of the time of a step, for the whole batch."""
        warps = max(self.warps / 4, 1)  # on each of the four schedulers of a multiprocessor
        # Multiplications, reads of rows, and the additions between lanes, for four rows at a time.
        product = self.rows / ROWS_AT_ONCE * (self.turns * (ROWS_AT_ONCE * 4 * self.columns + 4 * ROWS_AT_ONCE) + 60)
        exchanged = 0.0
        if self.exchange == "global":  # rows are read
            exchanged = self.rows * self.depth / (32 * self.warps)
        elif self.exchange == "cluster":  # numbers are written to all blocks
            exchanged = warps * self.numbers * self.group * (4 if self.direction == "forward" else 16)
        at_once = self.gpu.multiprocessors // self.group  # groups
        if self.exchange == "cluster":
            at_once = self.gpu.multiprocessors // CLUSTER_MULTIPROCESSORS * (CLUSTER_MULTIPROCESSORS // self.group)
        waves = math.ceil(self.groups / max(at_once, 1))
        return (warps * (product + self.numbers * 100) + exchanged + WAIT[self.exchange]) * waves * self.launches

    def plan(self, macros: dict[str, str]) -> Plan:
        """Return the plan with this layout."""
        rows = self.groups * self.rows
        counters = _round_up(self.groups, 4) if self.exchange == "global" else 0  # what follows them is aligned to 16 bytes
        exchanged = 2 * rows * self.depth if self.exchange == "global" and self.direction == "forward" else 0
        shares = {"SHARE": self.share, "GROUP": self.group, "ROWS": self.rows, "WARPS": self.warps}
        macros = macros | {f"JLSTM_{name}": str(value) for name, value in shares.items()}
        return Plan(
            blocks=self.group * self.groups,
            threads=32 * self.warps,
            cluster=self.group if self.exchange == "cluster" else 1,
            cooperative=self.exchange == "global",
            shared_bytes=self.shared_bytes,
            rows=rows,
            counters=counters,
            workspace_bytes=4 * (counters + exchanged),
            macros=macros | {"JLSTM_EXCHANGE": f"k{self.exchange.capitalize()}"},
        )


def _layouts(direction: Direction, units: int, batch: int, gpu: Gpu) -> Iterator[_Layout]:
    """Yield all layouts that fit."""
    padded = _round_up(units, PADDING)
    shares: dict[Exchange, tuple[int, ...]] = {"none": (padded,), "global": (8, 16, 32, 64)}
    if gpu.capability >= (9, 0):
        shares["cluster"] = (16, 32, 48, 64)
    exchanges = [(exchange, share) for exchange, choices in shares.items() for share in choices]
    for (exchange, share), rows, slices in itertools.product(exchanges, _rows(batch), (1, 2, 4, 8, 16)):
        groups, launches = -(-batch // rows), 1
        if exchange == "global":  # all blocks of a launch run at the same time
            most = max(gpu.multiprocessors // -(-padded // share), 1)
            groups, launches = min(groups, most), -(-groups // most)
        layout = _Layout(direction, padded, gpu, exchange, share, rows, slices, groups, launches)
        if layout.fits:
            yield layout


def _rows(batch: int) -> Iterator[int]:
    """Yield numbers of sequences that a group may have: multiples of 4 up to 64."""
    yield from range(ROWS_AT_ONCE, min(_round_up(batch, ROWS_AT_ONCE), 64) + 1, ROWS_AT_ONCE)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
