"""Explains why two sides differ: it applies known faults to the float64 truth until one reproduces the wrong side."""

from parity.diagnosis.diagnose import Diagnosis, diagnose, explain

__all__ = ["Diagnosis", "diagnose", "explain"]
