"""How far probabilities can be trusted, against other counts of the same."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest

from cnntrain.training.calibration import (
    SURE,
    accepted,
    best_temperature,
    calibration_error,
    intervals,
    mean_probability,
    wilson,
)


def test_the_expected_error_as_the_paper_has_it():
    drawn = np.random.default_rng(0)
    probability, is_right = drawn.random(500).astype(np.float32), drawn.random(500) < 0.6
    total = 0.0
    for number in range(15):
        own = (probability >= number / 15) & (probability < (number + 1) / 15)
        total += own.sum() / 500 * abs(is_right[own].mean() - probability[own].astype(float).mean())
    among = intervals(probability, is_right)
    assert calibration_error(among) == pytest.approx(total)
    assert len(among) == 15 and sum(one.images for one in among) == 500
    assert [one.probability for one in among] == sorted(one.probability for one in among)


def test_who_is_sure_and_right_makes_no_error():
    among = intervals(np.ones(4, np.float32), np.ones(4, bool))
    assert [(one.images, one.probability, one.accuracy) for one in among] == [(4, 1.0, 1.0)]
    assert calibration_error(among) == 0
    doubts = intervals(np.full(4, 0.75, np.float32), np.array([True, True, True, False]))
    assert calibration_error(doubts) == 0


def test_who_is_too_sure_is_off_by_as_much():
    among = intervals(np.array([1.0, 1.0, 0.5, 0.5], np.float32), np.array([True, False, True, False]))
    assert [(one.images, one.probability, one.accuracy) for one in among] == [(2, 0.5, 0.5), (2, 1.0, 0.5)]
    assert calibration_error(among) == 0.25


def test_what_is_no_number_is_left_out():
    among = intervals(np.array([np.nan, 0.5, 0.5], np.float32), np.array([True, True, False]))
    assert [(one.images, one.probability, one.accuracy) for one in among] == [(2, 0.5, 0.5)]
    assert mean_probability(among) == 0.5
    nothing = intervals(np.array([np.nan], np.float32), np.array([True]))
    assert nothing == [] and np.isnan(calibration_error(nothing)) and np.isnan(mean_probability(nothing))


def test_what_is_left_where_only_sure_predictions_are_taken():
    probability, is_right = np.array([0.4, 0.5, 0.85, 0.95]), np.array([False, False, True, True])
    found = accepted(probability, is_right)
    assert [one["at_least"] for one in found] == list(SURE)
    assert [(one["images"], one["accuracy"]) for one in found] == [
        (3, pytest.approx(2 / 3)),
        (2, 1.0),
        (1, 1.0),
        (1, 1.0),
        (0, None),
    ]


@pytest.mark.parametrize(("right", "count"), [(0, 3), (3, 3), (1, 1), (358, 359), (9910, 10000), (5, 10)])
def test_the_interval_of_a_share_as_scipy_has_it(right, count):
    found = binomtest(right, count).proportion_ci(method="wilson")
    low, high = wilson(right / count, count)
    assert (low, high) == (pytest.approx(found.low, abs=1e-5), pytest.approx(found.high, abs=1e-5))
    assert 0 <= low < high <= 1


@pytest.mark.parametrize("scale", [1e-4, 0.03, 0.5, 1.0, 7.0, 50.0, 1e4])
def test_the_temperature_that_another_search_finds(scale):
    drawn = np.random.default_rng(0)
    logits = drawn.normal(size=(400, 5)) * 2
    labels = np.array([drawn.choice(5, p=np.exp(row)) for row in log_softmax(logits, 1)])
    rows = np.arange(400)

    def loss(logarithm):
        return -log_softmax(scale * logits / np.exp(logarithm), 1)[rows, labels].mean()

    other = np.exp(minimize_scalar(loss, bounds=(-12, 12), method="bounded", options={"xatol": 1e-9}).x)
    found = best_temperature(torch.from_numpy(scale * logits).float(), torch.from_numpy(labels))
    assert found == pytest.approx(other, rel=1e-4)
    assert found == pytest.approx(scale, rel=0.15)


@pytest.mark.parametrize(
    ("logits", "why"),
    [
        (torch.eye(5).mul(30), "it classifies all of them rightly"),
        (torch.eye(5).mul(1e-3), "it classifies all of them rightly"),
        (torch.eye(5).mul(-1), "it knows nothing of them"),
        (torch.zeros(5, 5), "it knows nothing of them"),
        (torch.eye(5).log(), "some of its logits are not finite"),
        (torch.eye(5) * torch.nan, "some of its logits are not finite"),
    ],
)
def test_where_there_is_no_temperature(logits, why):
    with pytest.raises(ValueError, match=f"^{why}$"):
        best_temperature(logits, torch.arange(5))
