"""How a run is carried through: what its ranks ask each other, and what signals it may hear twice."""

from unittest import mock

import numpy as np
import pytest
from PIL import Image

from cnntrain.app import train as training
from cnntrain.app.configure import load_config
from cnntrain.app.where import Where
from cnntrain.training.distributed import Ranks
from cnntrain.training.loop import Remark


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
