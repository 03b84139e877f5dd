"""The training loop: what belongs to an epoch's seconds."""

import time

import torch

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.preparation import prepared
from cnntrain.app.ranks import joined
from cnntrain.app.where import Where
from cnntrain.training import loop
from cnntrain.training.state import EpochResult

LAG = 0.5


def test_an_epoch_s_seconds_hold_what_a_device_does_late(tiny, monkeypatch):
    """Whoever reads from a device first waits for all that was launched."""
    lag = [LAG]

    def wait():
        time.sleep(lag.pop() if lag else 0)

    class Lagging(torch.Tensor):
        def item(self):
            wait()
            return super().item()

        def __deepcopy__(self, memo):
            return torch.zeros(())

    def health(network, epoch):
        if epoch:
            wait()
        return []

    monkeypatch.setattr(loop, "layer_health", health)
    with joined("cpu") as ranks:
        given = prepared(load_config(tiny, ["training.epochs=1", "training.engine=eager"]), Where(), ranks, Silent())
        given.state.totals.loss = torch.zeros(()).as_subclass(Lagging)
        [result] = [item for item in loop.train(given.plan, given.state) if isinstance(item, EpochResult)]
    assert not lag
    assert result.seconds > LAG
