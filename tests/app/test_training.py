"""How a run is carried through: what its ranks ask each other, and what signals it may hear twice."""

import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from cnntrain.app import train as training
from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.seeds import train as seeds
from cnntrain.app.where import Where
from cnntrain.errors import Interrupted, UsageError
from cnntrain.training.distributed import Ranks
from cnntrain.training.loop import Remark
from tests.training.test_resume import InterruptAt, assert_same_runs


def test_a_remark_that_one_rank_has_asks_no_other(tiny, tmp_path, monkeypatch):
    config, loop, asked = load_config(tiny, ["training.epochs=1"]), training.train, []

    def talkative(plan, state):
        for item in loop(plan, state):
            yield Remark("by the way")
            yield item

    for name, items in (("plain", loop), ("talkative", talkative)):
        monkeypatch.setattr(training, "train", items)
        with mock.patch.object(Ranks, "agree", autospec=True, return_value=None) as agree:
            training.train_run(config, tmp_path / name, Where(device="cpu"))
        asked.append(agree.call_count)
    assert asked[0] == asked[1] > 1
    assert "by the way" in (tmp_path / "talkative" / "log.txt").read_text()


@pytest.mark.parametrize("is_launched", [False, True])
def test_a_rank_that_is_alone_may_hear_a_signal_from_its_launcher_too(tiny, tmp_path, monkeypatch, is_launched):
    monkeypatch.setattr(training, "is_launched", lambda: is_launched)
    with mock.patch.object(training, "listening", wraps=training.listening) as listening:
        training.train_run(load_config(tiny, ["training.epochs=1"]), tmp_path / "run", Where(device="cpu"))
    listening.assert_called_once_with(may_hear_twice=is_launched)


def test_what_is_said_of_the_data_is_in_the_log_before_all_else(tmp_path):
    for number in range(40):
        place = tmp_path / "images" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(place / f"{number}.png")
    (place / "photo.heic").write_bytes(b"heic")
    (tmp_path / "c.yaml").write_text(
        f"data: {{source: {{image_folder: {{path: {tmp_path / 'images'}}}}}}}\nnetwork: [softmax]\n"
        "training: {epochs: 1}\n"
    )
    run = tmp_path / "run"
    training.train_run(load_config(tmp_path / "c.yaml"), run, Where(device="cpu"))
    first, second, *_ = (run / "log.txt").read_text().splitlines()
    assert ".heic" in first
    assert second == f"run directory: {run}"


def test_where_another_thread_trained_when_a_process_was_forked_it_may_train():
    """The thread is not there any more, and what it held would be held for ever."""
    began, end = threading.Event(), threading.Event()

    def hold():
        with training.only_thread():
            began.set()
            end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    began.wait()
    try:
        with pytest.raises(UsageError, match="another thread"), training.only_thread():
            pass
        training._let_go()
        with training.only_thread(), training.only_thread():
            pass
    finally:
        end.set()
        thread.join()


def test_a_second_thread_may_not_train_and_does_not_disturb_the_first(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "_can_share", lambda config, where: True)
    config, where, refused = load_config(tiny, ["training.epochs=2"]), Where(device="cpu"), []
    training.train_run(config, tmp_path / "alone", where)
    asked = [
        lambda: training.train_run(config, tmp_path / "second", where),
        lambda: training.resume_run(tmp_path / "alone", ["training.epochs=3"], where),
        lambda: seeds.train_seeds(config, [0], tmp_path / "seeds", where, 1),
    ]

    class Asking(Silent):
        def say(self, line):
            if line.startswith("epoch 1/2"):
                for ask in asked:
                    with pytest.raises(UsageError, match="another thread of this process is training") as caught:
                        others.submit(ask).result()
                    refused.append(str(caught.value))

    with ThreadPoolExecutor(1) as others:
        training.train_run(config, tmp_path / "first", where, Asking())
        assert len(refused) == 3 and refused[0].endswith("train one run after the other, or in several processes")
        assert not (tmp_path / "second").exists() and not (tmp_path / "seeds").exists()
        assert_same_runs(tmp_path / "alone", tmp_path / "first")
        # However a run ends, others may follow.
        with pytest.raises(Interrupted):
            training.train_run(config, tmp_path / "third", where, InterruptAt("epoch 1/2"))
        others.submit(training.resume_run, tmp_path / "third", [], where).result()
    assert_same_runs(tmp_path / "alone", tmp_path / "third")
