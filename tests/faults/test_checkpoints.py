"""A checkpoint that is cut off or changed anywhere is named, never loaded; the one before it is offered."""

import shutil
import tempfile
from pathlib import Path
from random import Random

import pytest

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import CheckpointError, CnntrainError, Interrupted, UsageError
from cnntrain.run import checkpoint

from .cases import Row, assert_same, assert_same_runs, repeat, whole
from .test_interruption import Interrupting

CUTS = 200


def damaged(random: Random, content: bytes) -> bytes:
    """One of: a bit flipped, cut off, a stretch zeroed, bytes put in, or added at the end."""
    at, many = random.randrange(len(content)), random.randrange(1, 600)
    kind = random.randrange(10)
    if kind < 6:
        return content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]
    if kind < 8:
        return content[:at]
    if kind == 8:
        return content[:at] + bytes(len(content[at : at + many])) + content[at + many :]
    return content[:at] + random.randbytes(many) + content[at:]


def case(random: Random, content: bytes, file: Path) -> None:
    changed = damaged(random, content)
    if changed == content:
        return
    file.write_bytes(changed)
    try:
        checkpoint.load(file)
    except CheckpointError as error:
        assert str(file) in str(error)
    else:
        raise AssertionError(f"loaded a damaged checkpoint of {len(changed)} bytes")


def fuzz(random: Random, deadline: float):
    content = (whole() / "checkpoints" / "last.pt").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        return repeat(lambda r: case(r, content, Path(folder) / "last.pt"), random, deadline)


def test_two_thousand_damages_are_all_found(tmp_path):
    content = (whole() / "checkpoints" / "last.pt").read_bytes()
    for seed in range(2000):
        case(Random(seed), content, tmp_path / "last.pt")


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(whole(), tmp_path / "run"))


def test_the_previous_one_is_offered_and_leads_to_the_same_bits(run):
    last = run / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(CheckpointError) as caught:
        resume_run(run, [], Where())
    said = str(caught.value)
    assert str(last) in said and "damaged" in said
    before = checkpoint.load(run / "checkpoints" / "previous.pt").training
    assert before["epoch"] != before["batch"]
    assert f"The previous one, after epoch {before['epoch']}, batch {before['batch']}, is intact" in said
    command = said.splitlines()[-1].split()
    assert command == ["cnntrain", "train", "--resume", str(run / "checkpoints" / "previous.pt")]
    resume_run(Path(command[-1]), [], Where())
    assert_same_runs(whole(), run)


def test_nothing_is_offered_in_the_place_of_the_previous_one(run):
    previous = run / "checkpoints" / "previous.pt"
    previous.write_bytes(previous.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=rf"^{previous}: damaged, or not a checkpoint of this program: [^;]*$"):
        resume_run(previous, [], Where())


def test_the_best_checkpoint_holds_no_state_to_go_on_from(run):
    best = run / "checkpoints" / "best.pt"
    with pytest.raises(CheckpointError, match=f"^{best}: holds no training state to resume from$"):
        resume_run(best, [], Where())


@pytest.fixture
def rising(tiny, tmp_path):
    """A run each of whose three epochs is the best so far, saved every so many steps and after each."""

    def rising(steps):
        run = tmp_path / "rising"
        train_run(load_config(tiny, [f"training.checkpoint_every={{steps: {steps}}}"]), run, Where(device="cpu"))
        history = checkpoint.load(run / "checkpoints" / "last.pt").training["history"]
        assert [row["best"] for row in history] == [True, True, True]
        return run

    return rising


def test_changes_wait_until_the_best_checkpoint_is_reached_again(rising):
    run = rising(30)
    previous = run / "checkpoints" / "previous.pt"
    best = run / "checkpoints" / "best.pt"
    said = f"{best} is of epoch 3, later than the state to resume from; resume without changes first"
    with pytest.raises(UsageError, match=f"^{said}$"):
        resume_run(previous, ["training.l2=0.1"], Where(device="cpu"))
    before = checkpoint.load(run)
    resume_run(previous, [], Where(device="cpu"))
    assert_same(vars(checkpoint.load(run)), vars(before))
    assert "damaged or missing" not in (run / "log.txt").read_text()


def test_a_best_checkpoint_of_what_is_ahead_gives_way_to_the_state_that_is_changed(rising):
    run = rising(1000)
    with pytest.raises(Interrupted):
        resume_run(run / "checkpoints" / "previous.pt", ["training.l2=0.1"], Where(device="cpu"), Interrupting())
    best, last = checkpoint.load(run), checkpoint.load(run / "checkpoints" / "last.pt")
    assert (best.result["epoch"], last.training["epoch"]) == (2, 2)


class Barring(Silent):
    """Puts a folder where the best checkpoint is to be."""

    def __init__(self, best):
        self.best = best

    def progress(self, done, total, what):
        self.best.mkdir(exist_ok=True)


def test_the_state_is_saved_before_the_best_checkpoint(tiny, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    with pytest.raises(CnntrainError, match=f"; the last good state is kept in {folder / 'last.pt'}. Fix this, and"):
        train_run(load_config(tiny), tmp_path / "run", Where(device="cpu"), Barring(folder / "best.pt"))
    assert checkpoint.load(folder / "last.pt").training["epoch"] == 1


def test_without_any_whole_state_a_new_run_is_offered(run):
    for name in ("last", "previous"):
        (run / "checkpoints" / f"{name}.pt").write_bytes(b"PK")
    with pytest.raises(
        CheckpointError, match=r"no other state of this run is intact, so start a new run from .*config"
    ):
        resume_run(run, [], Where())


def test_a_last_checkpoint_that_is_gone_is_no_new_beginning(run):
    (run / "checkpoints" / "last.pt").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint here[\s\S]*previous\.pt"):
        resume_run(run, [], Where())


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"PK")])
def test_a_best_checkpoint_is_made_again_from_the_last(run, damage):
    history = checkpoint.load(run / "checkpoints" / "last.pt").training["history"]
    damage(run / "checkpoints" / "best.pt")
    resume_run(run, [], Where())
    if history[-1]["best"]:
        assert_same_runs(whole(), run)
    else:
        assert "best.pt is damaged or missing" in (run / "log.txt").read_text()


def test_a_best_checkpoint_that_is_made_again_is_the_same(rising):
    run = rising(1000)
    before = checkpoint.load(run)
    (run / "checkpoints" / "best.pt").unlink()
    resume_run(run, [], Where(device="cpu"))
    assert_same(vars(checkpoint.load(run)), vars(before))


ROWS: list[Row] = [("checkpoint cut off or changed", fuzz)]
