"""A checkpoint that was changed after it was written is never used: the run goes on from the previous one, to the same bits."""

import os
import random
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from bits import flipped, unnoticed
from conversions import refusal
from jlstm._src import serialization
from jlstm.train import fit, restore, stored
from jlstm.train.passes import Task, initial
from problems import assert_equal
from training import SGD, batches, init, loss_fn

run = partial(fit, loss_fn, init(), SGD, batches(), every=4, validation=batches(7))
NEWEST = "process_0.safetensors"


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The checkpoints of steps 4 and 8 of a run of 12 steps, and the final results."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        folder = tmp_path_factory.mktemp("damage") / "half"
        run(steps=8, checkpoints=folder)
        return folder, run(steps=12)


@pytest.fixture
def copy(half, tmp_path):
    return shutil.copytree(half[0], tmp_path / "copy")


def test_two_checkpoints_are_kept(half):
    """A run keeps the last two checkpoints and nothing else."""
    assert sorted(path.name for path in half[0].iterdir()) == ["4", "8"]


DAMAGES = {
    "a bit of the header": lambda file: file.write_bytes(flipped(file.read_bytes(), 8 * 100)),
    "a bit of an array": lambda file: file.write_bytes(flipped(file.read_bytes(), -1)),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "cut in its header": lambda file: file.write_bytes(file.read_bytes()[:50]),
    "cut in its length": lambda file: file.write_bytes(file.read_bytes()[:3]),
    "empty": lambda file: file.write_bytes(b""),
    "a byte more": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "zeros": lambda file: file.write_bytes(bytes(len(file.read_bytes()))),
    "JSON": lambda file: file.write_text("{}"),
    "text of two lines": lambda file: file.write_text("no\nno"),
    "a file without digests": lambda file: file.write_bytes(
        serialization.safetensors.numpy.save(serialization.unpack(file.read_bytes())[0])
    ),
    "a file of something else": lambda file: file.write_bytes(serialization.pack({"kernel": np.ones(3, np.float32)})),
    "a description of something else": lambda file: file.write_bytes(serialization.pack({}, {"checkpoint": "[1]"})),
    "missing": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "all gone": lambda file: file.rename(file.parents[2] / "elsewhere"),
    "a process that did not write": lambda file: rewrite(file, lambda about: about.replace('"processes": 1', '"processes": 2')),
    "half of an array": lambda file: rewrite(file, pieces=lambda kernel: {"@0:3,0:2": kernel[:, :2]}),
}


def rewrite(file, describe=lambda about: about, pieces=lambda kernel: {"": kernel}):
    """Write another description, and pieces of an array, with right digests."""
    arrays, metadata = serialization.unpack(file.read_bytes())
    arrays |= {f"params.kernel{place}": piece for place, piece in pieces(arrays.pop("params.kernel")).items()}
    file.write_bytes(serialization.pack(arrays, {"checkpoint": describe(metadata["checkpoint"])}))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_goes_on_from_the_checkpoint_before(damage, copy, half):
    """A warning names the damage. The results have the same bits, and the damaged checkpoint is replaced."""
    DAMAGES[damage](copy / "8" / NEWEST)
    with pytest.warns(
        UserWarning, match=r"^the checkpoint of step 8 in [^\n]* is damaged \([^\n]*\): going back to that of step 4$"
    ):
        result = run(steps=12, checkpoints=copy)
    assert_equal((result.params, result.best), (half[1].params, half[1].best))
    assert [record[:4] for record in result.history] == [record[:4] for record in half[1].history]
    assert sorted(path.name for path in copy.iterdir()) == ["12", "8"]
    assert_equal(restore(copy, init()), half[1].params)


def test_a_checkpoint_of_another_step_is_damaged(copy):
    """A checkpoint that was copied under the number of another step is not taken for that of the step."""
    shutil.copytree(copy / "4", copy / "12")
    assert "(process_0.safetensors is of step 4)" in refusal(lambda: restore(copy, init()))
    with pytest.warns(
        UserWarning, match=r"step 12 .* is damaged \(process_0.safetensors is of step 4\): going back to that of step 8"
    ):
        assert_equal(run(steps=8, checkpoints=copy).params, run(steps=8).params)


@pytest.mark.parametrize("damage", DAMAGES)
def test_other_parameters_are_never_restored(damage, copy):
    """`restore` does not fall back to earlier parameters: one sentence says where they are."""
    DAMAGES[damage](copy / "8" / NEWEST)
    sentence = refusal(lambda: restore(copy, init()))
    assert "the checkpoint of step 8 in " in sentence
    assert "is damaged (" in sentence
    assert sentence.endswith("fit goes on from step 4, as restore does without the folder 8")
    assert len(sentence) - len(str(copy)) < 250
    shutil.rmtree(copy / "8")
    restore(copy, init())


def test_a_file_in_place_of_a_checkpoint_is_a_damaged_one(copy, half):
    """The parameters of an earlier step are not restored without a word, and a run replaces the file."""
    shutil.rmtree(copy / "8")
    (copy / "8").write_text("")
    assert "the checkpoint of step 8 in " in refusal(lambda: restore(copy, init()))
    with pytest.warns(UserWarning, match=r"going back to that of step 4$"):
        assert_equal(run(steps=12, checkpoints=copy).params, half[1].params)
    assert sorted(path.name for path in copy.iterdir()) == ["12", "8"]


def test_two_damaged_checkpoints_are_one_sentence(copy):
    """A run does not silently start again from the beginning."""
    for step in ("4", "8"):
        DAMAGES["a bit of an array"](copy / step / NEWEST)
    sentence = refusal(lambda: run(steps=12, checkpoints=copy))
    assert "the checkpoint of step 8 in " in sentence
    assert sentence.endswith("and there is no whole one: copy one there, or give resume=False")
    assert_equal(run(steps=4, checkpoints=copy, resume=False).params, run(steps=4).params)


def test_every_flipped_bit_is_noticed(half):
    """Every flipped bit of a checkpoint is noticed, except in the unread spaces after the header."""
    content = (half[0] / "8" / NEWEST).read_bytes()
    assert unnoticed(content, random.Random(0).sample(range(8 * len(content)), 4000)) < 0.02


def test_an_array_that_is_in_pieces_is_put_together(copy):
    """Several processes write one array in pieces."""
    whole = restore(copy, init())
    rewrite(copy / "8" / NEWEST, pieces=lambda kernel: {"@0:3,0:2": kernel[:, :2], "@0:3,2:5": kernel[:, 2:]})
    assert_equal(restore(copy, init()), whole)


# Checkpoints of versions that wrote with orbax


def as_before(folder, step):
    """Write the checkpoint of a run as earlier versions did: by orbax, only the last one."""
    run(steps=step, checkpoints=folder / "new")
    checkpoint = stored.read(folder / "new" / str(step))
    state = initial(Task(loss_fn, SGD, batches(), None, 1, None), init())
    state = state._replace(sums={name: total for name, total in state.sums.items() if name != "skipped"})  # it was not counted
    training = {"state": stored.FieldsInFiles(*state._replace(params=())), "key": jax.random.key_data(jax.random.key(0))}
    items = {}
    for item, tree in {"params": init(), "best": init(), "training": training}.items():
        leaves = [jnp.array(checkpoint.arrays[name]) for name in serialization.by_name({item: tree})]
        items[item] = ocp.args.StandardSave(jax.tree.unflatten(jax.tree.structure(tree), leaves))
    contents = {name: text for name, text in checkpoint.contents.items() if not name.endswith(".skipped")}
    about = ocp.args.JsonSave({"contents": contents, "history": checkpoint.history})
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    with ocp.CheckpointManager(folder / "old", options=options) as manager:
        manager.save(step, args=ocp.args.Composite(about=about, **items))
    return folder / "old"


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return as_before(tmp_path_factory.mktemp("old"), 8)


# TensorStore's threads, which orbax uses, can end after its event loop. They report that to nobody in particular.
@pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")
def test_a_run_goes_on_from_a_checkpoint_of_an_older_version(old, half, tmp_path):
    """The results have the same bits, and new checkpoints have digests."""
    folder = shutil.copytree(old, tmp_path / "old")
    assert_equal(restore(folder, init()), run(steps=8).params)
    result = run(steps=12, checkpoints=folder)
    assert_equal((result.params, result.best), (half[1].params, half[1].best))
    assert (folder / "12" / NEWEST).is_file()


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_checkpoint_of_an_older_version_is_one_sentence(seed, old, tmp_path, capfd):
    """Any file cut short, emptied or overwritten gives our sentence, no foreign error."""
    dice, folder = random.Random(seed), shutil.copytree(old, tmp_path / "old")
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: (path.stat().st_size, path.name))
    file = dice.choice([path for path in files if path.stat().st_size > 100])
    content = file.read_bytes()
    file.write_bytes(dice.choice([b"", content[: len(content) // 2], b"{}", b"\xff\xfe" + content[2:]]))
    try:
        params = restore(folder, init())
    except ValueError as error:
        sentence = str(error)
        assert "\n" not in sentence
        assert "the checkpoint of step 8 in " in sentence
    else:
        assert_equal(params, run(steps=8).params)
    assert "Traceback" not in capfd.readouterr().err
