"""Checks that the same weights give the same outputs and gradients in another framework, and explains any difference."""

from parity.diagnosis import Diagnosis, diagnose
from parity.measure import Comparison, Quantity, assert_same, compare
from parity.problem import Problem
from parity.same_model import assert_same_model

__all__ = ["Comparison", "Diagnosis", "Problem", "Quantity", "assert_same", "assert_same_model", "compare", "diagnose"]
