"""The native kernel's handlers check what they get, before they read or write any data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import LSTMCell
from jlstm.backends.native.columns import attributes

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("native")]

F32 = jnp.float32
OPERANDS = {  # of a run with time 3, batch 2, features 5, units 4
    "xs": (3, 2, 5),
    "kernel": (5, 16),
    "recurrent_kernel": (4, 16),
    "bias": (16,),
    "peepholes": (0, 0),
    "projection": (0, 0),
    "h": (2, 4),
    "c": (2, 4),
    "mask": (0, 0),
    "resets": (0, 0),
}
OPTIONS = attributes(LSTMCell(4), reverse=False) | {"projection_clip": np.float64(np.inf)}
WRONG = {
    "xs": (3, 5),
    "kernel": (4, 16),
    "recurrent_kernel": (3, 16),
    "bias": (12,),
    "peepholes": (4, 3),
    "projection": (4, 4),
    "h": (4, 2),
    "c": (2, 5),
    "mask": (3, 1),
    "resets": (2, 2),
}


def call_directly(results=((3, 2, 4), (2, 4), (2, 4)), cell="lstm", **shapes):
    dtypes = {"mask": bool, "resets": bool}
    operands = [jnp.zeros(shape, dtypes.get(name, F32)) for name, shape in (OPERANDS | shapes).items()]
    call = jax.ffi.ffi_call("jlstm_forward", [jax.ShapeDtypeStruct(shape, F32) for shape in results])
    return jax.block_until_ready(call(*operands, **(OPTIONS | {"cell": cell})))


@pytest.mark.newest_jax
@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_are_refused(name):
    """The kernel's handler checks all shapes before it reads any data."""
    assert len(call_directly()) == 3
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"jlstm's kernel: {name} "):
        call_directly(**{name: WRONG[name]})


@pytest.mark.parametrize(
    ("results", "result_name"),
    [
        (((3, 2, 5), (2, 4), (2, 4)), "ys"),
        (((3, 2, 4), (2, 4), (4, 2)), "final c"),
        (((3, 2, 4), (2, 4), (2, 4), (3, 2, 64)), "what is kept"),
        (((3, 2, 4), (2, 4), (2, 4), (3, 2, 60), (3, 2, 16)), "gates"),
    ],
)
def test_wrong_results_are_refused(results, result_name):
    """The kernel's handler also checks the shapes of the buffers that it writes."""
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"jlstm's kernel: {result_name} "):
        call_directly(results)


def test_a_gru_has_no_c():
    """The handler refuses a GRU with a c, and a cell that it does not know."""
    results = (3, 2, 4), (2, 4), (2, 0)
    assert len(call_directly(results, cell="gru", c=(2, 0))) == 3
    with pytest.raises(jax.errors.JaxRuntimeError, match="jlstm's kernel: c "):
        call_directly(results, cell="gru")
    with pytest.raises(jax.errors.JaxRuntimeError, match="there is no such cell"):
        call_directly(results, cell="jordan")


def test_a_projection_gives_h_another_size():
    """The handler takes the size of h from the weights. It refuses a projection of another size, and one of a GRU."""
    shapes = {"recurrent_kernel": (3, 16), "projection": (5, 3), "h": (2, 3)}
    results = (3, 2, 3), (2, 3), (2, 4)
    assert len(call_directly(results, **shapes)) == 3
    with pytest.raises(jax.errors.JaxRuntimeError, match="jlstm's kernel: projection "):
        call_directly(results, **shapes | {"projection": (5, 2)})
    with pytest.raises(jax.errors.JaxRuntimeError, match="jlstm's kernel: recurrent_kernel "):
        call_directly(results, **shapes, cell="gru", c=(2, 0))


def test_other_dtypes_are_refused():
    """The handler refuses dtypes that the layer would not pass to it."""
    operands = [jnp.zeros(shape, jnp.bfloat16) for shape in OPERANDS.values()]
    call = jax.ffi.ffi_call("jlstm_forward", [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((3, 2, 4), (2, 4), (2, 4))])
    with pytest.raises(jax.errors.JaxRuntimeError, match="xs must be float32 or float64"):
        jax.block_until_ready(call(*operands, **OPTIONS))
