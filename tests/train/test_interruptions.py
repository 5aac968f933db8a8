"""Ctrl-C or a scheduler's SIGTERM leaves a checkpoint at any moment. A second signal does not wait."""

import signal
import threading
from functools import partial

import pytest

from jlstm.data import Minibatches
from jlstm.train import fit, restore
from problems import assert_equal
from training import SGD, batches, begin, init, loss_fn

run = partial(fit, loss_fn, init(), SGD, validation=batches(7), begin=begin, steps=14, every=5, steps_per_call=2)


class Ringing(Minibatches):
    """Batches that raise a signal before one of them."""

    def __init__(self, number, position, count=22, seed=0):
        super().__init__(batches(count).examples, 4, seed)
        self.number, self.position = number, position

    def epoch(self, number, start=0, part=(0, 1)):
        for index, batch in enumerate(super().epoch(number, start, part), start):
            if number * len(self) + index == self.position:
                signal.raise_signal(self.number)
                self.position = None
            yield batch


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("position", [1, 3, 4, 5, 6, 9, 12, 13])
def test_a_run_that_was_interrupted_goes_on_bit_by_bit(number, position, tmp_path):
    """A signal at any point of the run leaves the same final results and the old handlers."""
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt, match=r"^stopped after step \d+ of 14; kept in /.*, where it can be resumed"):
        run(batches=Ringing(number, position), checkpoints=tmp_path)
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == handlers
    step = max(int(path.name) for path in tmp_path.iterdir())
    assert position < step <= min(14, position + 4)  # the call under way, and the next
    result, whole = run(batches=batches(), checkpoints=tmp_path), run(batches=batches())
    assert_equal((result.params, result.best), (whole.params, whole.best))
    assert [record[:4] for record in result.history] == [record[:4] for record in whole.history]


def test_before_the_first_record_there_are_no_best_parameters(tmp_path):
    """The initial parameters are not reported as the best ones."""
    with pytest.raises(KeyboardInterrupt):
        run(batches=Ringing(signal.SIGINT, 1), checkpoints=tmp_path)
    restore(tmp_path, init())
    with pytest.raises(ValueError, match="was stopped before its first record: go on with it, or give best=False"):
        restore(tmp_path, init(), best=True)


def test_validation_is_finished_first(tmp_path):
    """A signal during validation waits for the record and its checkpoint."""
    with pytest.raises(KeyboardInterrupt, match=r"^stopped after step 5 of 14;"):
        run(batches=batches(), validation=Ringing(signal.SIGINT, 1, count=7), checkpoints=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["5"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_request_before_the_first_step_leaves_a_checkpoint_too(number, tmp_path):
    """A validation batch is fetched first, for its shapes. Without a handler SIGTERM would kill there."""
    with pytest.raises(KeyboardInterrupt, match=r"^stopped after step \d of 14; kept in "):
        run(batches=batches(), validation=Ringing(number, 0, count=7), checkpoints=tmp_path)
    (step,) = (int(path.name) for path in tmp_path.iterdir())
    assert 0 < step <= 4  # the call under way, and the next


def test_the_second_ctrl_c_does_not_wait(tmp_path):
    """It raises at once, before the checkpoint."""

    def interrupt_twice(record, params):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")

    previous_handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process would ignore it
    try:
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            run(batches=batches(), checkpoints=tmp_path, callbacks=[interrupt_twice])
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    assert list(tmp_path.iterdir()) == []


def test_a_request_after_the_last_step_is_not_lost():
    """A signal after the last step still ends in KeyboardInterrupt."""

    def stop(history):
        signal.raise_signal(signal.SIGINT)
        return True

    with pytest.raises(KeyboardInterrupt, match="stopped after the last step"):
        run(batches=batches(), stop=stop)


def test_without_checkpoints_nothing_is_kept():
    """The message then promises no checkpoint."""
    with pytest.raises(KeyboardInterrupt, match=r"^stopped after step 5 of 14; nothing is kept"):
        run(batches=batches(), callbacks=[lambda *_: signal.raise_signal(signal.SIGINT)])


def test_a_handler_from_elsewhere_is_no_obstacle(monkeypatch):
    """Python cannot read or restore a handler that was not installed by Python."""
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    previous_handlers = signal.signal(signal.SIGINT, signal.SIG_DFL), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        run(batches=batches())
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), previous_handlers, strict=True):
            signal.signal(number, handler)


def test_other_threads_train_too():
    """Only the main thread can handle signals. Other threads train without handling them."""
    results = []
    thread = threading.Thread(target=lambda: results.append(run(batches=batches())))
    thread.start()
    thread.join()
    assert len(results[0].history) == 3
