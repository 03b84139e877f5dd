"""The training loop: what an epoch reports, and what belongs to its seconds."""

import copy
import time

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.preparation import prepared
from cnntrain.app.ranks import joined
from cnntrain.app.where import Where
from cnntrain.data.batches import derived_seed, epoch_order
from cnntrain.training import loop
from cnntrain.training.rows import EpochResult
from cnntrain.training.step import Totals

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


PLAIN = """
data: {source: digits, limit: 530, normalize: true}
network: [{dropout: 0.0}, {conv: {filters: 4}}, batch_norm, softmax]
training:
  epochs: 5
  batch_size: 100
  optimizer: {sgd: {learning_rate: 0.5}}
  schedule: linear
  warmup_epochs: 1
  label_smoothing: 0.1
  l2: 0.5
  clip_grad_norm: 0.5
"""


def judged(network, images):
    """Loss and accuracy over a split, all of it at once."""
    with torch.no_grad():
        logits = network.eval()(images.preprocessing.normalize(images.gather(torch.arange(len(images)))[0]))
    return functional.cross_entropy(logits, images.labels).item(), (logits.argmax(1) == images.labels).float().mean()


def test_figures_of_each_epoch_are_those_of_a_plain_loop(tmp_path):
    (tmp_path / "plain.yaml").write_text(PLAIN)
    with joined("cpu") as ranks:
        given = prepared(load_config(tmp_path / "plain.yaml"), Where(), ranks, Silent())
        # No two purposes share random numbers, and `show --augment` draws those of training.
        assert torch.initial_seed() == derived_seed(0, "training")
        network, feeds, best = copy.deepcopy(given.state.network), given.plan.feeds, 0.0
        items = list(loop.train(given.plan, given.state))
    # After each batch, and twice while it is evaluated.
    progress = [(item.epoch, item.batch, item.batches) for item in items if isinstance(item, loop.Progress)]
    assert progress == [(epoch, min(batch, 6), 6) for epoch in range(1, 6) for batch in range(1, 9)]
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() == 1]
    # Of six batches, of which the last has 30 images.
    optimizer = torch.optim.SGD([{"params": weights, "weight_decay": 0.5 / 6}, {"params": others}], lr=0.0)
    for epoch, result in enumerate(item for item in items if isinstance(item, EpochResult)):
        loss = correct = 0.0
        for number, indices in enumerate(epoch_order(530, "always", 0, epoch).split(100)):
            images, labels = feeds.train.gather(indices)
            logits = network.train()(feeds.train.preprocessing.normalize(images))
            mean = functional.cross_entropy(logits, labels, label_smoothing=0.1)
            loss, correct = loss + mean.item() * len(labels), correct + (logits.argmax(1) == labels).sum().item()
            done = (6 * epoch + number) / 30
            rate = 0.5 * (1 - done) * min((6 * epoch + number + 1) / 6, 1)
            optimizer.zero_grad()
            mean.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        assert (result.epoch, result.step) == (epoch + 1, 6 * (epoch + 1))
        assert result.learning_rate == pytest.approx(rate)
        assert result.train_loss == pytest.approx(loss / 530, rel=1e-5)
        assert result.train_accuracy == correct / 530
        for name in ("sample", "validation"):
            wanted = judged(network, getattr(feeds, name))
            assert getattr(result, f"{name}_loss") == pytest.approx(wanted[0], rel=1e-5)
            assert getattr(result, f"{name}_accuracy") == pytest.approx(wanted[1])
        assert result.best == (wanted[1] >= best)
        best = max(best, wanted[1])
        assert result.test_accuracy == (pytest.approx(judged(network, feeds.test)[1]) if result.best else None)
        assert result.images_per_second == pytest.approx(530 / result.seconds)
    assert (result.epoch, given.state.seconds) == (5, 0.0)
    # One epoch is worse than the one before, and a later one is as good.
    assert [row.best for row in given.state.history] == [True, True, True, False, True]


def test_a_state_is_restored_with_all_that_it_counts(tiny):
    with joined("cpu") as ranks:
        given, other = (prepared(load_config(tiny), Where(), ranks, Silent()) for _ in range(2))
        state, restored = given.state, other.state
        # In the middle of the second epoch.
        for item in loop.train(given.plan, state):
            if isinstance(item, loop.Progress) and (item.epoch, item.batch) == (2, 7):
                break
        state.changes, state.rollbacks = ("after epoch 0, batch 3: training.l2=0.1",), 2
        restored.restore(copy.deepcopy(state.save()))
    numbers = ("epoch", "batch", "step", "learning_rate", "seconds", "stopped", "rollbacks")
    for name in (*numbers, "changes", "history", "health"):
        assert getattr(restored, name) == getattr(state, name), name
    assert (state.epoch, state.batch, state.step) == (1, 7, 41 + 7)
    assert min(state.seconds, state.learning_rate, restored.totals.loss) > 0
    assert {layer.epoch for layer in state.health} == {0, 1}
    # What a rollback goes back to is saved where there may be one, and until the epoch is done.
    assert state.save()["anchor"] is None
    state.keeps_anchor = True
    assert (state.save()["anchor"]["epoch"], state.save()["anchor"]["batch"]) == (1, 0)
    state.set_anchor()
    assert (state.anchor["batch"], state.anchor["anchor"]) == (7, None)
    state.batch = 0
    assert state.save()["anchor"] is None
    restored.begin_epoch_again()
    assert (restored.epoch, restored.batch, restored.seconds) == (1, 0, 0.0)
    assert (restored.totals.loss, restored.totals.correct) == (0, 0)
    assert {layer.epoch for layer in restored.health} == {0, 1}


def test_the_health_of_layers_that_are_updated_early_is_known(tiny):
    with joined("cpu") as ranks:
        given = prepared(load_config(tiny, ["training.optimizer.sgd.momentum=0"]), Where(), ranks, Silent())
        list(loop.train(given.plan, given.state))
    assert len(given.plan.engine.step.updates) == 2
    layers = ["0_conv.0", "3_fully_connected.linear", "4_softmax.linear"]
    assert [(row.epoch, row.layer) for row in given.state.health] == [
        (epoch, layer) for epoch in range(4) for layer in layers
    ]


def test_stopping_and_halving_go_by_validation(tiny):
    with joined("cpu") as ranks:
        given = prepared(load_config(tiny, ["training.schedule=halve_on_plateau"]), Where(), ranks, Silent())
        list(loop.train(given.plan, given.state))
    best = max(row.validation_accuracy for row in given.state.history)
    assert given.state.stopping.best == given.state.schedule.since.best == best


# Each epoch is a different compromise between the classes.
UNEQUAL = """
data: {{source: {{npz: {path}}}, normalize: true}}
network: [softmax]
training: {{epochs: 8, shuffle: balanced, optimizer: {{sgd: {{learning_rate: 3}}}}, schedule: halve_on_plateau}}
"""


@pytest.fixture
def unequal(rare, tmp_path):
    """The path of a config whose epochs are good by one figure and bad by another."""
    (tmp_path / "unequal.yaml").write_text(UNEQUAL.format(path=rare))
    return tmp_path / "unequal.yaml"


@pytest.mark.parametrize("monitor", ["validation_accuracy", "validation_balanced_accuracy", "validation_loss"])
def test_what_is_monitored_says_which_epoch_is_the_best(unequal, monitor):
    early = "training.early_stopping={patience: 8, restore_best: true}"
    with joined("cpu") as ranks:
        given = prepared(load_config(unequal, [f"training.monitor={monitor}", early]), Where(), ranks, Silent())
        feeds, kept = given.plan.feeds, []

        def balanced(images):
            with torch.no_grad():
                logits = given.state.network.eval()(next(images.batches(999))[0])
            return pytest.approx(balanced_accuracy_score(images.labels, logits.argmax(1)))

        for item in loop.train(given.plan, given.state):
            # At the end the network is that of the best epoch.
            if isinstance(item, EpochResult) and not given.state.stopped:
                kept.append(copy.deepcopy(given.state.network.state_dict()))
                assert item.validation_balanced_accuracy == balanced(feeds.validation)
                assert item.test_balanced_accuracy == (balanced(feeds.test) if item.best else None)
    history, sign = given.state.history, -1 if monitor == "validation_loss" else 1
    flags = {
        name: [by[-1] >= max(by) for by in (figures[: end + 1] for end in range(8))]
        for name, figures in {
            "validation_accuracy": [row.validation_accuracy for row in history],
            "validation_balanced_accuracy": [row.validation_balanced_accuracy for row in history],
            "validation_loss": [-row.validation_loss for row in history],
        }.items()
    }
    assert [row.best for row in history] == flags.pop(monitor)
    assert [row.test_accuracy is not None for row in history] == [row.best for row in history]
    assert [row.best for row in history] not in flags.values()
    best = sign * getattr(given.state.best, monitor)
    assert given.state.stopping.best == given.state.schedule.since.best == best
    wanted = kept[given.state.best.epoch - 1]
    assert all(torch.equal(value, wanted[name]) for name, value in given.state.network.state_dict().items())
    assert given.state.best.epoch < 8


def test_training_ends_where_the_schedule_does(tiny):
    schedule = "training.schedule={halve_on_plateau: {patience: 1, stop_at: 0.5}}"
    # Too slow for any image to be seen otherwise.
    overrides = [schedule, "training.epochs=9", "training.optimizer.sgd.learning_rate=1e-12", "network=[softmax]"]
    with joined("cpu") as ranks:
        given = prepared(load_config(tiny, overrides), Where(), ranks, Silent())
        list(loop.train(given.plan, given.state))
    assert given.state.stopped == "the learning rate was halved down to 1/2 of its first value"
    assert (given.state.epoch, len(given.state.history)) == (2, 2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_are_in_the_precision_asked_for(tiny, precision):
    with joined("cpu") as ranks:
        plan = prepared(load_config(tiny, [f"training.precision={precision}"]), Where(), ranks, Silent()).plan
        found = []
        plan.engine.step.network[0].register_forward_hook(lambda layer, given, output: found.append(output.dtype))
        plan.engine.step(torch.arange(8), Totals.zero(ranks.device))
    assert found == [getattr(torch, precision)]


def test_a_last_batch_of_one_image_is_tried_without_a_trace(tmp_path):
    (tmp_path / "plain.yaml").write_text(PLAIN)
    overrides = ["data.limit=101", "training.batch_size=50"]
    with joined("cpu") as ranks:
        norm = prepared(load_config(tmp_path / "plain.yaml", overrides), Where(), ranks, Silent()).state.network[2]
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(4))


def test_seeded_losses_stay_what_they_are(tiny):
    """They depend on all that a seed draws: weights, order, augmentation, dropout."""
    with joined("cpu") as ranks:
        given = prepared(load_config(tiny, ["training.epochs=2"]), Where(device="cpu"), ranks, Silent())
        results = [item for item in loop.train(given.plan, given.state) if isinstance(item, EpochResult)]
    losses = [loss for result in results for loss in (result.train_loss, result.validation_loss)]
    # CPUs differ in the order of additions.
    assert losses == pytest.approx([1.921146, 0.998379, 1.248944, 0.717008], rel=1e-4)
