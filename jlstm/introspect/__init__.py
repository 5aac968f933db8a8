"""Inspection of layers: gate values at every step, gate saturation, and gradient flow through time.

`jlstm.plot` draws the results of these functions.
"""

from jlstm.introspect.flow import Flow, gradient_flow
from jlstm.introspect.gates import Saturation, Trace, saturation, trace

__all__ = ["Flow", "Saturation", "Trace", "gradient_flow", "saturation", "trace"]
