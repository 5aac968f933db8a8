"""The command `python -m benchmarks.gpu`, see `benchmarks.gpu`.

Exit status 0: done; 1: a check failed, or there is no GPU; 2: wrong usage.
"""

import sys

from benchmarks.gpu.cli import main

if __name__ == "__main__":
    sys.exit(main())
