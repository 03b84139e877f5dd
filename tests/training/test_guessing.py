"""A network that learned nothing is told so, with what its figures say of the cause; so are unlike test images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cnntrain.app import configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved
from cnntrain.data.images import Images
from cnntrain.data.splits import Splits
from cnntrain.network.build import build
from cnntrain.training.circumstances import Circumstances, standard_error
from cnntrain.training.diagnostics import verdict
from cnntrain.training.guessing import unlike
from cnntrain.training.regularization import Regularization
from cnntrain.training.rows import EpochResult, LayerHealth

ROW = EpochResult(1, 10, 0.1, 2.3, 0.1, 2.3, 0.1, 2.3, 0.1, 0.1, True, 1.0, 1.0)
# 1,000 images of which a tenth are of one class: up to 11.9 % may be chance.
GIVEN = Circumstances(images=1000, guess=0.1, guess_loss=math.log(10), normalizes=True)


def history(*rows):
    """Of accuracies on training and on validation images."""
    return [
        replace(ROW, epoch=number, sample_accuracy=sample, validation_accuracy=validation)
        for number, (sample, validation) in enumerate(rows, 1)
    ]


def health(*epochs):
    """Of the norms (weight, gradient) of layers in epochs from 0 on."""
    return [
        LayerHealth(epoch, str(layer), *norms)
        for epoch, layers in enumerate(epochs)
        for layer, norms in enumerate(layers)
    ]


def cause(given=GIVEN, rows=None):
    text = verdict(rows or history((0.1, 0.1), (0.11, 0.1)), given).text
    assert text.startswith("no better than guessing: ")
    return text.partition("; ")[2]


@pytest.mark.parametrize(("accuracy", "is_guess"), [(0.1, True), (0.1189, True), (0.119, False), (0.5, False)])
def test_what_chance_alone_can_bring_about_is_a_guess(accuracy, is_guess):
    judged = verdict(history((0.5, 0.5), (accuracy, 0.5)), GIVEN)
    assert judged.text.startswith("no better than guessing: ") is is_guess
    if is_guess:
        assert judged.text.startswith(
            f"no better than guessing: {100 * accuracy:.2f} % of the training images are classified correctly, and "
            f"always answering with the most frequent class is right for 10.00 %; "
        )


@pytest.mark.parametrize(("train", "is_guess"), [(0.55, True), (0.7, False)])
def test_few_images_that_may_be_right_by_chance_do_not_count_where_all_say_more(train, is_guess):
    rows = [replace(row, train_accuracy=train) for row in history((0.8, 0.8))]
    judged = verdict(rows, replace(GIVEN, images=10, trained=400, guess=0.5))
    assert judged.text.startswith("no better than guessing: ") is is_guess


@pytest.mark.parametrize(
    ("sample", "validation", "images", "guess", "is_told"),
    [
        (1.0, 0.55, 1000, 0.5, False),
        (1.0, 0.52, 1000, 0.5, True),
        # So few that a good network may have it by chance.
        (1.0, 0.8, 10, 0.5, False),
        # A good network, of a rare class.
        (1.0, 0.99, 100, 0.95, False),
    ],
)
def test_labels_are_doubted_where_it_is_no_chance(sample, validation, images, guess, is_told):
    rows = [replace(row, train_accuracy=1.0) for row in history((sample, validation))]
    judged = verdict(rows, replace(GIVEN, images=images, guess=guess))
    assert judged.text.startswith("nothing learned but the training images: ") is is_told


def test_where_nothing_is_known_of_classes_nothing_is_a_guess():
    assert verdict(history((0.01, 0.01))).text.startswith("underfitting: ")


def test_what_holds_for_no_other_images_was_not_learned():
    rows = [
        replace(row, validation_loss=2.3 + row.epoch, sample_loss=2.3 / row.epoch)
        for row in history((0.2, 0.09), (0.4, 0.11), (0.6, 0.1))
    ]
    judged = verdict(rows, GIVEN)
    assert not judged.overfits
    assert judged.text == (
        "nothing learned but the training images: 60.00 % of them are classified correctly, but never more than "
        "11.00 % of the validation images, where always answering with the most frequent class is right for 10.00 %; "
        "do the labels belong to the images?"
    )
    assert verdict([*rows, replace(rows[-1], validation_accuracy=0.2)], GIVEN).overfits


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        (
            [[(1, 1), (1, 1)], [(1, 0), (1, 0)], [(1, 0), (1, 0)]],
            "no gradient since epoch 1, as where all units are dead; ",
        ),
        (
            [[(1, 1), (1, 1)], [(1, 1), (1, 0)], [(1, 0), (1, 0)]],
            "no gradient since epoch 2, as where all units are dead; ",
        ),
        ([[(0, 0), (0, 0)], [(0, 0), (0, 0)], [(0, 0), (0, 0)]], "no gradient from the first batch on, as where "),
    ],
)
def test_weights_without_a_gradient(norms, said):
    found = cause(replace(GIVEN, health=health(*norms)))
    assert found.startswith(f"the weights have had {said}")
    assert found.endswith("try another `init`" if "first batch" in said else "try a lower learning rate")


def test_weights_that_got_their_gradient_back_are_not_dead():
    norms = [[(1, 1), (1, 1)], [(1, 0), (1, 0)], [(1, 1), (1, 1)]]
    assert cause(replace(GIVEN, health=health(*norms))).startswith("try ten times the learning rate")


@pytest.mark.parametrize(("loss", "is_told"), [(4.6, False), (4.7, True), (1.5e9, True)])
def test_a_loss_that_exploded(loss, is_told):
    rows = history((0.1, 0.1), (0.1, 0.1))
    rows[0] = replace(rows[0], train_loss=loss)
    said = f"training loss was {loss:.4g} in an epoch, where guessing has 2.303; try a lower learning rate, or "
    assert cause(rows=rows).startswith(said) is is_told


@pytest.mark.parametrize(("first", "is_told"), [(9e-4, True), (2e-3, False)])
def test_a_gradient_that_vanishes_on_its_way(first, is_told):
    found = cause(replace(GIVEN, health=health([(1, 1), (1, 1)], [(1, first), (1, 1)])))
    assert found.startswith("the first layer's gradient is 9e-04 times that of the last; try `relu`, ") is is_told


@pytest.mark.parametrize("decays", [True, False])
def test_weights_that_shrank(decays):
    shrunk = replace(GIVEN, health=health([(1, 1), (1, 1)], [(0.009, 0.1), (0.009, 0.1)]))
    found = cause(replace(shrunk, regularization=Regularization(decays=decays)))
    assert (found == "the weights have shrunk to nothing; try a smaller `training.l2`") is decays


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (GIVEN, "try ten times the learning rate, a tenth of it, or look at it with `cnntrain probe`"),
        (
            replace(GIVEN, normalizes=False, regularization=Regularization(drops=True)),
            "try ten times the learning rate, a tenth of it, `data.normalize: true`, less `dropout`, or look at it "
            "with `cnntrain probe`",
        ),
        (
            replace(GIVEN, guess=0.9),
            "try `training.shuffle: balanced`, ten times the learning rate, a tenth of it, or look at it with "
            "`cnntrain probe`",
        ),
    ],
)
def test_where_the_figures_say_nothing_of_the_cause(given, advice):
    assert cause(given) == advice


def test_a_gap_that_may_be_chance_is_none():
    rows = [replace(row, sample_loss=0.1, validation_loss=0.2) for row in history((1.0, 0.97))]
    assert verdict(rows, replace(GIVEN, images=1000)).text.startswith("a gap, but no overfitting: ")
    assert verdict(rows, replace(GIVEN, images=96)).text == (
        "no overfitting: 100.00 % of training, 97.00 % of validation images, only 96 of each"
    )


def test_epochs_do_not_help_where_the_schedule_is_over():
    rows = [replace(row, learning_rate=0.1 / row.epoch**8) for row in history((0.5, 0.5), (0.6, 0.6))]
    assert (
        "try a `training.schedule` that falls more slowly, another"
        in verdict(rows, replace(GIVEN, stretches=False)).text
    )
    assert "try more `training.epochs`, another" in verdict(rows, GIVEN).text


@pytest.mark.parametrize(
    ("validation", "test", "count", "is_told"),
    [(0.95, 0.84, 1000, True), (0.95, 0.86, 1000, False), (0.95, 0.84, 50, False), (0.8, 0.95, 1000, False)],
)
def test_test_images_that_are_unlike_the_others(validation, test, count, is_told):
    said = unlike(replace(ROW, validation_accuracy=validation, test_accuracy=test), count, count)
    assert said == ("" if not is_told else said)
    assert said.startswith("test accuracy is 11.0 points below validation accuracy: ") is is_told


def test_all_right_and_all_wrong_have_no_deviation():
    assert unlike(replace(ROW, validation_accuracy=1.0, test_accuracy=1.0), 10, 10) == ""
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(0.9, math.inf) == 0


def test_circumstances_of_a_run():
    config = from_resolved(
        {"network": ["softmax"], "data": {"normalize": True}, "training": {"l2": 0.1, "schedule": {"step": 3}}}
    )
    images = Images(np.zeros((8, 1, 2, 2), np.uint8), np.array([0, 1, 2, 2, 2, 0, 1, 2]))
    rows = health([(1, 1)])
    with torch.random.fork_rng():
        found = Circumstances.of(
            config, build(config, (1, 2, 2), 3), Splits(("a", "b", "c"), images, images, images), rows
        )
    assert found == Circumstances(
        Regularization(decays=True),
        normalizes=True,
        stretches=False,
        images=8,
        trained=8,
        guess=0.5,
        guess_loss=math.log(3),
        health=rows,
    )
    assert found.best_guess(8) == pytest.approx(0.5 + 2 * (0.25 / 8) ** 0.5)
