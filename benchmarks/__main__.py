"""The command `python -m benchmarks`, see `benchmarks.speed`.

Exit status 0: done; 1: something failed; 2: wrong usage.
"""

import sys

from benchmarks.speed.cli import main

if __name__ == "__main__":
    sys.exit(main())
