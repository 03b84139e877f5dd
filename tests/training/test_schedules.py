"""Schedules against torch's own, and the book's halving rule."""

import math

import pytest
import torch

from cnntrain.training import schedules
from cnntrain.training.schedules import NoImprovement, warmed_up

EPOCHS = 12


def torch_factors(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


S = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (schedules.constant(EPOCHS), lambda o: S.ConstantLR(o, 1.0)),
        (schedules.step(EPOCHS, 5, 0.5), lambda o: S.StepLR(o, 5, 0.5)),
        (schedules.multi_step(EPOCHS, [3, 8], 0.1), lambda o: S.MultiStepLR(o, [3, 8], 0.1)),
        (schedules.exponential(EPOCHS, 0.9), lambda o: S.ExponentialLR(o, 0.9)),
        (schedules.cosine(EPOCHS, 0.1), lambda o: S.CosineAnnealingLR(o, EPOCHS, 0.1)),
        (schedules.linear(EPOCHS, 0.2), lambda o: S.LinearLR(o, 1.0, 0.2, EPOCHS)),
    ],
)
def test_equal_torch_at_each_epoch(ours, theirs):
    expected = torch_factors(theirs, EPOCHS)
    assert [ours.factor(float(epoch)) for epoch in range(EPOCHS)] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("schedule", "time", "expected"),
    [
        (schedules.step(EPOCHS, 5, 0.5), 4.99, 1.0),
        (schedules.multi_step(EPOCHS, [3, 8], 0.5), 2.99, 1.0),
        (schedules.exponential(EPOCHS, 0.5), 1.99, 0.5),
        (schedules.linear(EPOCHS, 0.2), 4.5, 0.7),
        (schedules.cosine(EPOCHS), 3.0, (2 + 2**0.5) / 4),
        (schedules.one_cycle(EPOCHS), EPOCHS, 1 / (25 * 1e4)),
        (schedules.one_cycle(EPOCHS, 0.5, 10, 4), 0.0, 1 / 10),
        (schedules.one_cycle(EPOCHS, 0.5, 10, 4), 6.0, 1.0),
        (schedules.one_cycle(EPOCHS, 0.5, 10, 4), EPOCHS, 1 / 40),
        (schedules.cosine(EPOCHS), 4.5, 0.5 + 0.5 * math.cos(0.375 * math.pi)),
    ],
)
def test_within_an_epoch_curves_go_on_and_stairs_do_not(schedule, time, expected):
    assert schedule.factor(time) == pytest.approx(expected)


def test_one_cycle_equals_torch_up_to_its_count_of_steps():
    batches = 100
    total = EPOCHS * batches
    expected = torch_factors(lambda o: S.OneCycleLR(o, 1.0, total_steps=total, cycle_momentum=False), total)
    ours = schedules.one_cycle(EPOCHS)
    # torch reaches its ends at the last step, we at the end of the last epoch.
    assert [ours.factor(step / batches) for step in range(total)] == pytest.approx(expected, abs=5e-3)
    assert max(ours.factor(step / batches) for step in range(total)) == pytest.approx(1, abs=1e-6)


def test_warm_up_rises_in_a_straight_line_and_then_leaves_the_schedule_alone():
    assert [warmed_up(1.0, step / 4, 1.0, 1 / 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmed_up(0.3, 2.0, 1.0, 0.1) == 0.3
    assert warmed_up(0.3, 0.0, 1.0, 0.1) == pytest.approx(0.03)
    # The end of the warm-up lies within a batch.
    assert warmed_up(0.3, 0.9, 1.0, 0.25) == 0.3


def test_halving_rule_of_the_book():
    schedule = schedules.halve_on_plateau(100, patience=2)
    seen = []
    epochs = 0
    while not schedule.finished:
        schedule.observe(0.5)
        epochs += 1
        seen.append(schedule.factor(float(epochs)))
    # The first epoch is an improvement on nothing; then each second one halves, seven times down to 1/128.
    assert epochs == 1 + 2 * 7
    assert seen[-1] == 1 / 128
    assert "1/128" in schedule.finished


def test_halving_counts_from_the_last_improvement():
    schedule = schedules.halve_on_plateau(100, patience=2)
    for accuracy in (0.5, 0.5, 0.6, 0.6):
        schedule.observe(accuracy)
    assert schedule.factor(4.0) == 1.0
    schedule.observe(0.6)
    assert schedule.factor(5.0) == 0.5


def test_halving_state_is_exact():
    one, other = schedules.halve_on_plateau(9, 3), schedules.halve_on_plateau(9, 3)
    for accuracy in (0.5, 0.4, 0.4, 0.4, 0.4):
        one.observe(accuracy)
    other.restore(one.state())
    assert other == one


def test_min_delta_is_no_improvement():
    counter = NoImprovement(min_delta=0.01)
    assert [counter.observe(accuracy) for accuracy in (0.5, 0.505, 0.509, 0.52)] == [0, 1, 2, 0]
