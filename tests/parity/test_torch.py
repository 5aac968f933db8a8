"""Projections and the GRU equal PyTorch's: outputs, states and all gradients in float64."""

import numpy as np
import pytest
import torch

from jlstm import GRU, LSTM
from jlstm.convert import torch as convert
from problems import FEATURES, UNITS, assert_close, cotangent_of, differentiate, small_problem

pytestmark = pytest.mark.usefixtures("x64")
LAYERS = {
    "GRU": GRU(UNITS),
    "GRU without bias": GRU(UNITS, use_bias=False),
    "projection": LSTM(UNITS, projection=3),
    "projection without bias": LSTM(UNITS, projection=3, use_bias=False),
}


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_equal_pytorch(name):
    """Weight gradients agree in its layout. Each of two added biases has the gradient of their sum."""
    problem = small_problem(LAYERS[name])
    layer, params, xs, carry = problem
    d_carry, d_ys = cotangent_of(problem)
    (last, ys), (of_params, of_xs, of_carry) = differentiate(layer, (d_carry, d_ys), params, xs, carry)
    weights, gradients = convert.dump(layer, params), convert.dump(layer, of_params)
    kind, size = ("GRU", {}) if name.startswith("GRU") else ("LSTM", {"proj_size": 3})
    module = getattr(torch.nn, kind)(FEATURES, UNITS, batch_first=True, bias="bias_ih_l0" in weights, dtype=torch.float64, **size)
    module.load_state_dict({key: torch.tensor(value) for key, value in weights.items()})
    x, *start = (torch.tensor(array, requires_grad=True) for array in (xs, *carry))
    theirs, state = module(x, start[0][None] if kind == "GRU" else tuple(part[None] for part in start))
    states = [state] if kind == "GRU" else list(state)
    loss = (theirs * torch.tensor(np.asarray(d_ys))).sum()
    loss = loss + sum((part[0] * torch.tensor(np.asarray(d))).sum() for part, d in zip(states, d_carry, strict=True))
    loss.backward()
    assert_close((ys, *last), (theirs.detach().numpy(), *(part[0].detach().numpy() for part in states)), atol=1e-13)
    assert_close((of_xs, *of_carry), (x.grad.numpy(), *(part.grad.numpy() for part in start)), atol=1e-12)
    for key, weight in module.named_parameters():
        expected = weight.grad.numpy()
        if key.startswith("bias_hh"):  # only the GRU's candidate keeps a second bias
            expected = np.concatenate([np.zeros(2 * UNITS), expected[2 * UNITS :]]) if kind == "GRU" else 0 * expected
        np.testing.assert_allclose(gradients[key], expected, atol=1e-12)
