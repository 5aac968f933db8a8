"""Compile the kernel for GPUs with NVRTC, for many sizes and kinds of GPUs, and write a table of its registers.

python -m benchmarks.gpu_kernels             write results/gpu_kernels.md
python -m benchmarks.gpu_kernels --print     print the table only

No GPU is needed. A kernel that spills registers to memory is slow, so the table says for each variant how many bytes it spills.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jlstm.backends.gpu import compiler, nvrtc
from jlstm.backends.gpu.plan import Direction, Gpu, Plan, plan

RESULTS = Path(__file__).parent / "results" / "gpu_kernels.md"
GPUS = {
    "A100": Gpu((8, 0), 108, 166912),
    "RTX 3090": Gpu((8, 6), 82, 101376),
    "H200": Gpu((9, 0), 132, 232448),
    "B200": Gpu((10, 0), 148, 232448),
    "RTX 5090": Gpu((12, 0), 170, 101376),
}
SIZES = (  # batch, units
    *((128, 10), (1, 32), (256, 64), (32, 128), (48, 200), (1, 256), (8, 320), (64, 512), (20, 650), (16, 1024)),
    *((4096, 64), (2000, 256)),
)
CELLS = ("lstm", "lstm variant", "gru")
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


class Row(NamedTuple):
    """A compiled variant.

    Attributes:
        gpu: name of the GPU.
        cell: "lstm", "lstm variant" or "gru".
        direction: "forward" or "backward".
        batch: sequences in the batch.
        units: units of the cell.
        plan: how it runs, or why it does not.
        registers: registers of a thread.
        spilled: bytes of memory that a thread needs, for registers that do not suffice or for arrays that are not in registers.
    """

    gpu: str
    cell: str
    direction: str
    batch: int
    units: int
    plan: Plan | str
    registers: int = 0
    spilled: int = 0

    def __str__(self) -> str:
        start = f"| {self.gpu} | {self.cell} | {self.direction} | {self.batch} | {self.units} |"
        if isinstance(self.plan, str):
            return f"{start} {self.plan} | | | | |"
        exchange = self.plan.macros.get("JLSTM_EXCHANGE", "kWarp")[1:].lower()
        sizes = f"{self.plan.blocks} × {self.plan.threads} | {self.plan.shared_bytes / 1024:.0f}"
        return f"{start} {exchange} | {sizes} | {self.registers} | {self.spilled} |"


def rows(
    gpus: dict[str, Gpu] = GPUS, sizes: tuple[tuple[int, int], ...] = SIZES, cells: tuple[str, ...] = CELLS
) -> Iterator[Row]:
    """Compile the plan of each GPU, size, cell and direction."""
    library = nvrtc.load()
    for name, gpu in gpus.items():
        for batch, units in sizes:
            for cell in cells:
                for direction in DIRECTIONS:
                    choice = plan(direction, cell, units, batch, gpu)
                    row = Row(name, cell, direction, batch, units, choice)
                    if not isinstance(choice, str):
                        registers, spilled = _report(library, choice, gpu)
                        row = row._replace(registers=registers, spilled=spilled)
                    yield row


def _report(library: nvrtc.Nvrtc, choice: Plan, gpu: Gpu) -> tuple[int, int]:
    """Compile a kernel, and return its registers for a thread and the bytes that it spills."""
    headers = dict(compiler.sources())
    source = headers.pop(compiler.SOURCE)
    options = [*compiler.options(library.architectures, choice.macros, gpu.capability), "--ptxas-options=-v"]
    log = library.compile(compiler.SOURCE, source, headers, options).log
    registers, spilled = (re.search(pattern, log) for pattern in (r"Used (\d+) registers", r"(\d+) bytes stack frame"))
    if registers is None or spilled is None:
        raise RuntimeError(f"NVRTC reported no registers: {log[:200]!r}")
    return int(registers[1]), int(spilled[1])


def main() -> None:
    """Compile all variants, print their rows, and write the table to RESULTS unless --print is given."""
    version = ".".join(map(str, nvrtc.load().version))
    lines = [
        "# Variants of the GPU kernel",
        "",
        f"Printed by `python -m benchmarks.gpu_kernels` with NVRTC {version}, without a GPU. Shared memory: KiB for a block.",
        "",
        "| GPU | cell | direction | batch | units | exchange | blocks × threads | shared | registers | spilled bytes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows():
        print(row, flush=True)
        lines.append(str(row))
    if "--print" not in sys.argv[1:]:
        RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
