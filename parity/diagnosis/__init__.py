"""Why two sides differ, in words, found by trying faults on the float64 truth until it equals the side that is off."""

from parity.diagnosis.diagnose import Diagnosis, diagnose, explain

__all__ = ["Diagnosis", "diagnose", "explain"]
