"""Ways to run a whole recurrence. `scan` is the meaning of all others."""

from jlstm.backends import scan

BACKENDS = {"auto": scan.run, "scan": scan.run}
