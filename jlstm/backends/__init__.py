"""Ways to run a whole recurrence. `scan` is the meaning of all others."""

import jax

from jlstm.backends import cpu, fused, scan

def _auto(cell, start, way):
    return (cpu if jax.default_backend() == "cpu" else fused).run(cell, start, way)

BACKENDS = {"auto": _auto, "scan": scan.run, "fused": fused.run, "cpu": cpu.run}
