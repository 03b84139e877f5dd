"""How a run is carried through: what its ranks ask each other, and what signals it may hear twice."""

from unittest import mock

import pytest

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
