"""The verdict on a run, and the norms of its layers."""

import csv
from dataclasses import replace

import pytest
import torch
from torch import nn

from cnntrain.app import configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved
from cnntrain.network.build import build
from cnntrain.training.circumstances import Circumstances
from cnntrain.training.health import layer_health
from cnntrain.training.regularization import Regularization
from cnntrain.training.rows import EpochResult
from cnntrain.training.verdict import verdict

ROW = EpochResult(1, 10, 0.1, 0.5, 0.8, 0.5, 0.8, 0.5, 0.8, 0.8, True, 1.0, 1.0)


def history(sample, validation, accuracies=None):
    return [
        replace(ROW, epoch=i + 1, sample_loss=s, validation_loss=v, sample_accuracy=a, validation_accuracy=b)
        for i, (s, v, (a, b)) in enumerate(
            zip(sample, validation, accuracies or [(0.9, 0.9)] * len(sample), strict=True)
        )
    ]


def test_overfitting_since_the_turn():
    judged = verdict(history([0.5, 0.3, 0.2, 0.1, 0.05], [0.6, 0.4, 0.45, 0.5, 0.6]))
    assert judged.overfits
    assert judged.turned_in_epoch == 2
    assert judged.validation_loss_rise == pytest.approx(0.5)
    assert judged.text == (
        "overfitting since epoch 2: training loss kept falling (0.3000 to 0.0500) while validation loss rose by 50 % "
        "(0.4000 to 0.6000); try more images or `data.augment`, `dropout`, `training.l2`, fewer units, or "
        "`training.early_stopping`"
    )


@pytest.mark.parametrize(("loss", "overfits"), [(0.419, False), (0.421, True)])
def test_a_rise_by_less_than_a_twentieth_is_noise(loss, overfits):
    assert verdict(history([0.5, 0.3, 0.2], [0.6, 0.4, loss])).overfits is overfits


@pytest.mark.parametrize(
    ("since", "loss"),
    [
        # The last one of seven, and the median of the last three of twelve.
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6], 0.6),
        ([0.44] * 9 + [0.6, 0.5, 0.7], 0.6),
    ],
)
def test_the_end_is_the_last_quarter_since_the_turn(since, loss):
    accuracies = [*[(0.9, 0.9)] * (len(since) + 1), (0.95, 0.8)]
    judged = verdict(history([0.5, 0.3, *[0.1] * len(since)], [0.6, 0.4, *since], accuracies))
    assert judged.validation_loss_rise == pytest.approx(loss / 0.4 - 1)
    assert judged.accuracy_gap == pytest.approx(0.15)


def test_a_loss_of_nothing_rises_by_nothing():
    judged = verdict(history([0.2, 0.1], [0.0, 0.5]))
    assert (judged.overfits, judged.turned_in_epoch, judged.validation_loss_rise) == (False, 1, 0.0)


def test_one_odd_epoch_at_the_end_does_not_hide_it():
    sample, validation = [0.5, 0.3, *[0.1] * 12, 0.9], [0.6, 0.4, *[0.5] * 12, 2.0]
    judged = verdict(history(sample, validation))
    assert judged.overfits
    assert judged.validation_loss_rise == pytest.approx(0.25)


def test_a_loss_that_rises_on_both_sides_is_no_overfitting():
    accuracies = [(0.8, 0.8), (0.9, 0.9), (0.8, 0.8)]
    judged = verdict(history([0.5, 0.3, 0.6], [0.6, 0.4, 0.7], accuracies))
    assert not judged.overfits
    assert judged.text == (
        "unsteady: both losses were lower in epoch 2 (training 0.3000, validation 0.4000, now higher by 75 %) than at "
        "the end; try a lower learning rate, or a `training.schedule` that ends low, such as cosine"
    )


@pytest.mark.parametrize(("accuracy", "word"), [(0.894, "unsteady"), (0.896, "underfitting")])
def test_accuracies_that_fall_by_half_a_percent_are_unsteady(accuracy, word):
    accuracies = [(0.8, 0.8), (0.9, 0.9), (accuracy, accuracy)]
    assert verdict(history([0.5, 0.3, 0.6], [0.6, 0.4, 0.7], accuracies)).text.startswith(f"{word}: ")


def test_losses_that_rise_alike_while_accuracy_stays_are_nothing_to_worry_about():
    assert verdict(history([0.5, 0.3, 0.32], [0.6, 0.4, 0.43])).text.startswith("no overfitting: 90.00 %")


def test_one_validation_image_more_that_is_wrong_is_nothing_unsteady():
    accuracies = [(0.8, 0.8), (1.0, 0.986), (1.0, 0.979)]
    judged = verdict(history([0.5, 0.08, 0.09], [0.6, 0.13, 0.143], accuracies))
    assert judged.text.startswith("a gap, but no overfitting: 100.00 % of training, 97.90 %")


def test_a_gap_without_a_turn():
    accuracies = [(0.8, 0.79), (0.9, 0.85), (0.99, 0.86)]
    judged = verdict(history([0.5, 0.3, 0.1], [0.6, 0.4, 0.39], accuracies))
    assert judged.text.startswith("a gap, but no overfitting: 99.00 % of training, 86.00 %")
    assert "the gap grew by 8.0 points since epoch 2" in judged.text
    assert judged.accuracy_gap == pytest.approx(0.13)


@pytest.mark.parametrize(
    ("accuracy", "trend"),
    [
        (0.86, "grew by 3.0 points"),
        (0.88, "grew by 1.0 points"),
        (0.886, "is steady"),
        (0.92, "shrank by 3.0 points"),
    ],
)
def test_a_gap_is_compared_with_the_middle_of_the_run(accuracy, trend):
    accuracies = [(0.8, 0.79), (0.85, 0.8), (0.95, 0.85), (0.99, accuracy)]
    judged = verdict(history([0.5, 0.3, 0.2, 0.1], [0.6, 0.5, 0.45, 0.44], accuracies))
    assert f"; the gap {trend} since epoch 3; " in judged.text


@pytest.mark.parametrize(("accuracy", "text"), [(0.985, "no overfitting: "), (0.975, "a gap, but no overfitting: ")])
def test_a_gap_of_two_points_deserves_a_word(accuracy, text):
    assert verdict(history([0.5, 0.4, 0.39], [0.5, 0.4, 0.401], [(1.0, accuracy)] * 3)).text.startswith(text)


def test_still_falling():
    falling = history([0.5, 0.4], [0.5, 0.4])
    assert "more `training.epochs`" in verdict(falling).text
    # With a learning rate that has come down to nearly nothing, more epochs would change nothing.
    assert "more `training.epochs`" not in verdict([falling[0], replace(falling[1], learning_rate=0.0009)]).text


@pytest.mark.parametrize(("accuracy", "wrong"), [(0.7, "30.00"), (0.89, "11.00")])
def test_underfitting(accuracy, wrong):
    judged = verdict(history([0.5, 0.4, 0.39], [0.5, 0.4, 0.401], [(accuracy, accuracy - 0.04)] * 3))
    assert judged.text.startswith(f"underfitting: {wrong} % of the training images are still wrong ({100 * accuracy}")


@pytest.mark.parametrize("epochs", [1, 3])
def test_all_well(epochs):
    judged = verdict(history([0.5, 0.4, 0.39], [0.5, 0.4, 0.401])[:epochs])
    assert judged.text == "no overfitting: 90.00 % of training, 90.00 % of validation images"


OVERFITTING = history([0.5, 0.3, 0.2, 0.1, 0.05], [0.6, 0.4, 0.45, 0.5, 0.6])
GAP = history([0.5, 0.4, 0.39], [0.5, 0.4, 0.401], [(1.0, 0.9)] * 3)
UNDERFITTING = history([0.5, 0.4, 0.39], [0.5, 0.4, 0.401], [(0.7, 0.7)] * 3)
ALL = Regularization(augments=True, drops=True, decays=True, stops_early=True)


@pytest.mark.parametrize(
    ("rows", "used", "advice"),
    [
        (OVERFITTING, ALL, "more images, more `dropout`, a larger `training.l2`, or fewer units"),
        (GAP, ALL, "more images, more `dropout`, or a larger `training.l2`"),
        (GAP, Regularization(), "more images or `data.augment`, `dropout`, or `training.l2`"),
        (GAP, Regularization(decay="`weight_decay`"), "more images or `data.augment`, `dropout`, or `weight_decay`"),
        (
            UNDERFITTING,
            Regularization(drops=True, decays=True),
            "more `training.epochs`, another learning rate, a larger network, less `dropout`, a smaller `training.l2`, "
            "or look at it with `cnntrain probe`",
        ),
        (
            UNDERFITTING,
            Regularization(),
            "more `training.epochs`, another learning rate, a larger network, or look at it with `cnntrain probe`",
        ),
    ],
)
def test_what_is_on_already_is_not_recommended(rows, used, advice):
    assert verdict(rows, Circumstances(used)).text.partition("; try ")[2].split("; try ")[-1] == advice


def test_a_schedule_that_ends_low_is_not_recommended_to_one_that_does():
    rows = history([0.5, 0.3, 0.6], [0.6, 0.4, 0.7], [(0.8, 0.8), (0.9, 0.9), (0.8, 0.8)])
    rows[-1] = replace(rows[-1], learning_rate=0.0001)
    assert verdict(rows).text.endswith("; try a lower learning rate")


@pytest.mark.parametrize(
    ("training", "network", "expected"),
    [
        ({}, ["softmax"], Regularization()),
        ({"l2": 0.1}, ["softmax"], Regularization(decays=True)),
        ({"early_stopping": {"patience": 3}}, ["softmax"], Regularization(stops_early=True)),
        (
            {"optimizer": {"sgd": {"weight_decay": 0.1}}},
            ["softmax"],
            Regularization(decay="`weight_decay`", decays=True),
        ),
        # Which takes no `l2`.
        ({"optimizer": {"adamw": {"weight_decay": 0.0}}}, ["softmax"], Regularization(decay="`weight_decay`")),
        ({}, [{"softmax": {"dropout": 0.5}}], Regularization(drops=True)),
        ({}, [{"dropout": 0.0}, "softmax"], Regularization()),
        ({}, [{"repeat": {"times": 2, "layers": [{"dropout": 0.1}]}}, "softmax"], Regularization(drops=True)),
    ],
)
@pytest.mark.parametrize("scaling", ["inverted", "book"])
def test_what_a_config_uses(training, network, expected, scaling):
    config = from_resolved({"network": network, "training": training, "dropout_scaling": scaling})
    assert Regularization.of(config, build(config, (1, 4, 4), 3)) == expected


@pytest.mark.parametrize(
    ("data", "expected", "less"),
    [
        ({"augment": ["flip"]}, Regularization(augments=True), ["less `data.augment`"]),
        ({"expand": "one_pixel_shifts"}, Regularization(expands=True), ["no `data.expand`"]),
    ],
)
def test_how_a_config_changes_images(data, expected, less):
    config = from_resolved({"network": ["softmax"], "data": data})
    found = Regularization.of(config, build(config, (1, 4, 4), 3))
    assert (found, found.less()) == (expected, less)


def test_norms_of_layers_with_weights():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    network(torch.randn(4, 3)).sum().backward()
    rows = layer_health(network, epoch=7)
    assert [(row.layer, row.epoch) for row in rows] == [("0", 7), ("2", 7)]
    assert rows[0].weight_norm == pytest.approx(network[0].weight.norm().item())
    assert rows[1].gradient_norm == pytest.approx(network[2].weight.grad.norm().item())


def test_a_run_keeps_them_from_the_first_batch_on(trained):
    with (trained / "diagnostics.csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = ["0_conv.0", "3_fully_connected.linear", "4_softmax.linear"]
    assert [row["layer"] for row in rows] == layers * 4
    assert [row["epoch"] for row in rows[::3]] == ["0", "1", "2", "3"]
    assert all(float(row["gradient_norm"]) > 0 for row in rows)
