"""The benchmarked LSTMs with peepholes and with a projection, which only some frameworks have."""

import pytest

from benchmarks.speed import frameworks, worker
from benchmarks.speed.frameworks import FRAMEWORKS, Setting
from speeds import SMALL

pytestmark = pytest.mark.no_cover

CASES = [("torch", "projection"), ("jlstm", "projection"), ("jlstm", "peephole"), ("onnxruntime", "peephole")]


@pytest.mark.table(quick=1)
@pytest.mark.loose
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("name", "form"), CASES)
def test_all_of_it_is_computed(name, form):
    """A framework that has the cell returns all outputs, and one gradient for each parameter."""
    if name != "jlstm":
        pytest.importorskip(name)
    assert form in FRAMEWORKS[name].cells
    jobs = frameworks.load(name)[0].build(SMALL[form], Setting(1, FRAMEWORKS[name].variant))
    assert jobs.keys() == ({"forward"} if name == "onnxruntime" else {"forward", "training"})
    for job, call in jobs.items():
        fewest, most = SMALL[form].results(job)
        assert fewest <= worker.count(call()) <= most


def test_who_has_which_cell():
    """PyTorch has no peepholes and ONNX Runtime no projection. Flax and Keras have neither."""
    who = {form: {name for name in frameworks.PEERS if form in FRAMEWORKS[name].cells} for form in ("peephole", "projection")}
    assert who == {"peephole": {"onnxruntime"}, "projection": {"torch"}}
