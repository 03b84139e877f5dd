"""The verdict on a run, and the norms of its layers."""

import csv
from dataclasses import replace

import pytest
import torch
from torch import nn

from cnntrain.training.diagnostics import layer_health, verdict
from cnntrain.training.state import EpochResult

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
    assert judged.text.startswith("overfitting since epoch 2: training loss kept falling (0.3000 to 0.0500)")
    assert "rose by 50 %" in judged.text


def test_one_odd_epoch_at_the_end_does_not_hide_it():
    sample, validation = [0.5, 0.3, *[0.1] * 12, 0.9], [0.6, 0.4, *[0.5] * 12, 2.0]
    judged = verdict(history(sample, validation))
    assert judged.overfits
    assert judged.validation_loss_rise == pytest.approx(0.25)


def test_a_loss_that_rises_on_both_sides_is_no_overfitting():
    accuracies = [(0.8, 0.8), (0.9, 0.9), (0.8, 0.8)]
    judged = verdict(history([0.5, 0.3, 0.6], [0.6, 0.4, 0.7], accuracies))
    assert not judged.overfits
    assert judged.text.startswith("unsteady: both losses were lower in epoch 2")


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


def test_still_falling():
    assert "more `training.epochs`" in verdict(history([0.5, 0.4], [0.5, 0.4])).text


def test_underfitting():
    judged = verdict(history([0.5, 0.4, 0.39], [0.5, 0.4, 0.401], [(0.7, 0.66)] * 3))
    assert judged.text.startswith("underfitting: 30.00 % of the training images are still wrong (70.00 %")


def test_all_well():
    assert verdict(history([0.5, 0.4, 0.39], [0.5, 0.4, 0.401])).text.startswith("no overfitting: 90.00 %")


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
