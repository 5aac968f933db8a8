"""A look inside: what gates did at every step, how saturated they were, and how gradients came back through time.

`jlstm.plot` draws what these functions return.
"""

from jlstm.inspect.flow import Flow, gradient_flow
from jlstm.inspect.gates import Saturation, Trace, saturation, trace

__all__ = ["Flow", "Saturation", "Trace", "gradient_flow", "saturation", "trace"]
