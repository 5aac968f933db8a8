"""Ways to run a whole recurrence. `scan` is the meaning of all others."""

from jlstm.backends import fused, scan

BACKENDS = {"auto": fused.run, "scan": scan.run, "fused": fused.run}
