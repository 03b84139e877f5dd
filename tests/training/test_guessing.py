"""A network that learned nothing is told so, with what its figures say of the cause; so are unlike test images."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cnntrain.app import configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved
from cnntrain.data.images import Images
from cnntrain.data.splits import Splits
from cnntrain.network.build import build
from cnntrain.training.circumstances import Circumstances, Guess, standard_error
from cnntrain.training.regularization import Regularization
from cnntrain.training.rows import EpochResult, LayerHealth
from cnntrain.training.verdict import unlike, verdict

ROW = EpochResult(1, 10, 0.1, 2.3, 0.1, 2.3, 0.1, 2.3, 0.1, 0.1, True, 1.0, 1.0)
# Of 1,000 validation images a tenth is of one class: up to 11.9 % may be chance.
GIVEN = Circumstances(
    trained=Guess(0.1, 4000), validated=Guess(0.1, 1000), guess_loss=2.303, even_loss=math.log(10), normalizes=True
)


def history(*rows, train=None):
    """Of accuracies on a sample of the training and on the validation images."""
    return [
        replace(
            ROW,
            epoch=number,
            sample_accuracy=sample,
            validation_accuracy=validation,
            train_accuracy=sample if train is None else train,
        )
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
    text = verdict(rows or history((0.1, 0.1), (0.1, 0.1)), given).text
    assert text.startswith("no better than guessing: ")
    return text.partition("; ")[2]


@pytest.mark.parametrize(("accuracy", "is_guess"), [(0.1, True), (0.1189, True), (0.119, False), (0.5, False)])
def test_what_chance_alone_can_bring_about_is_a_guess(accuracy, is_guess):
    text = verdict(history((0.3, 0.1), (0.3, accuracy), (0.3, 0.1), train=0.1), GIVEN).text
    assert text.startswith("no better than guessing: ") is is_guess
    if is_guess:
        assert text.startswith(
            f"no better than guessing: never more than {100 * accuracy:.2f} % of the validation images, where always "
            f"answering with the most frequent class is right for 10.00 %; "
        )


@pytest.mark.parametrize(("train", "is_guess"), [(0.1, True), (0.109, True), (0.11, False)])
def test_all_training_images_must_say_the_same(train, is_guess):
    text = verdict(history((0.1, 0.1), train=train), GIVEN).text
    assert text.startswith("no better than guessing: ") is is_guess


@pytest.mark.parametrize(("loss", "is_guess"), [(2.2, False), (2.31, True), (2.9, True)])
def test_who_is_right_more_often_by_chance_is_no_surer(loss, is_guess):
    """ln(10) is 2.303: initial weights may be right for 12 of 100 images, but gain nothing by it."""
    rows = [replace(row, train_loss=loss) for row in history((0.12, 0.1), (0.12, 0.1))]
    assert verdict(rows, GIVEN).text.startswith("no better than guessing: ") is is_guess


def test_who_memorizes_and_is_far_too_sure_does_not_guess():
    rows = [replace(row, train_loss=2.9) for row in history((0.5, 0.1), (0.8, 0.1))]
    assert verdict(rows, GIVEN).text.startswith("nothing learned but the training images: ")


def test_where_nothing_is_known_of_classes_nothing_is_a_guess():
    assert verdict(history((0.01, 0.01))).text.startswith("underfitting: ")


@pytest.mark.parametrize("epochs", [1, 2])
def test_who_has_learned_and_forgot_was_better_than_guessing(epochs):
    rows = history(*[(0.97, 0.95)] * epochs, (0.1, 0.1))
    rows[-1] = replace(rows[-1], sample_loss=9.0, validation_loss=9.0)
    assert verdict(rows, GIVEN).text.startswith("unsteady: ")


@pytest.mark.parametrize(("lowest", "is_guess"), [(2.2, True), (2.18, False)])
def test_who_gives_right_classes_more_probability_does_not_guess(lowest, is_guess):
    rows = history((0.1, 0.1), (0.1, 0.1), (0.1, 0.1))
    rows[1] = replace(rows[1], validation_loss=lowest)
    assert verdict(rows, GIVEN).text.startswith("no better than guessing: ") is is_guess
    learned = history((0.6, 0.1), (0.6, 0.1))
    learned[0] = replace(learned[0], validation_loss=lowest)
    assert verdict(learned, GIVEN).text.startswith("nothing learned but the training images: ") is is_guess


@pytest.mark.parametrize(("share", "count"), [(0.9, 20), (0.97, 100), (0.99, 1000), (0.5, 4), (0.6, 10)])
def test_a_perfect_network_never_guesses(share, count):
    given = replace(GIVEN, trained=Guess(share, 10 * count), validated=Guess(share, count))
    assert verdict(history((1.0, 1.0)), given).text.startswith("no overfitting: ")


def test_of_each_split_another_share_is_guessed():
    uneven, even = Guess(0.9, 400), Guess(0.5, 400)
    judged = verdict(history((0.92, 0.5)), replace(GIVEN, trained=uneven, validated=even))
    assert judged.text.startswith("no better than guessing: ")
    judged = verdict(history((0.9, 1.0)), replace(GIVEN, trained=even, validated=uneven))
    assert judged.text.startswith("no overfitting: ")


@pytest.mark.parametrize(("balanced", "is_guess"), [(None, True), (0.64, True), (0.65, False)])
def test_who_tells_a_rare_class_from_others_does_not_guess(balanced, is_guess):
    # 388 images of one class and 12 of the other: 50 % and twice sqrt(1 / (4 * 388) + 1 / (4 * 12)) / 2.
    validated = Guess.of(np.array([0.97, 0.03, 0.0]), 400)
    assert validated == Guess(0.97, 400, pytest.approx(0.64655, rel=1e-4))
    rare = [replace(row, validation_balanced_accuracy=balanced) for row in history((0.97, 0.97), (0.97, 0.971))]
    given = replace(GIVEN, trained=Guess(0.97, 4000), validated=validated, guess_loss=0.13)
    assert verdict(rare, given).text.startswith("no better than guessing") is is_guess


def test_what_holds_for_no_other_images_was_not_learned():
    rows = [
        replace(row, validation_loss=2.3 + row.epoch, sample_loss=2.3 / row.epoch)
        for row in history((0.2, 0.09), (0.4, 0.11), (0.6, 0.1))
    ]
    judged = verdict(rows, GIVEN)
    assert judged.overfits
    assert judged.text == (
        "nothing learned but the training images: 60.00 % of them are classified correctly, but never more than "
        "11.00 % of the validation images, where always answering with the most frequent class is right for 10.00 %; "
        "do the labels belong to the images?"
    )
    better = verdict([*rows, replace(rows[-1], validation_accuracy=0.2)], GIVEN)
    assert better.overfits and better.text.startswith("overfitting since epoch 1: ")


@pytest.mark.parametrize(
    ("sample", "validation", "guess", "is_told"),
    [
        (1.0, 0.55, Guess(0.5, 1000), False),
        (1.0, 0.52, Guess(0.5, 1000), True),
        # So few that a good network may have it by chance.
        (1.0, 0.8, Guess(0.5, 10), False),
        (0.05, 0.03, Guess(0.02, 100), False),
        # Of as few, accuracies are as far apart by chance: two standard errors are 13.7 points.
        (0.56, 0.43, Guess(0.95, 105), False),
        (0.58, 0.43, Guess(0.95, 105), True),
        # A good network, of a rare class.
        (1.0, 0.99, Guess(0.95, 100), False),
    ],
)
def test_labels_are_doubted_where_it_is_no_chance(sample, validation, guess, is_told):
    judged = verdict(history((sample, validation)), replace(GIVEN, trained=Guess(0, 4000), validated=guess))
    assert judged.text.startswith("nothing learned but the training images: ") is is_told


@pytest.mark.parametrize(
    ("norms", "since", "advice"),
    [
        ([[(1, 1), (1, 1)], [(1, 0), (1, 0)], [(1, 0), (1, 0)]], "since epoch 1", "a lower learning rate"),
        ([[(1, 1), (1, 1)], [(1, 1), (1, 0)], [(1, 0), (1, 0)]], "since epoch 2", "a lower learning rate"),
        # The last layer may have one by a bias in between.
        ([[(1, 1), (1, 1)], [(1, 0), (1, 1)]], "since epoch 1", "a lower learning rate"),
        ([[(0, 0), (0, 0)], [(0, 1), (0, 0)], [(0, 0), (0, 0)]], "since epoch 2", "a lower learning rate"),
        ([[(0, 0), (0, 0)], [(0, 0), (0, 0)], [(0, 0), (0, 0)]], "from the first batch on", "another `init`"),
    ],
)
def test_weights_without_a_gradient(norms, since, advice):
    found = cause(replace(GIVEN, health=health(*norms)))
    assert found == f"the first layer's weights have had no gradient {since}, as where units are dead; try {advice}"


def test_weights_that_got_their_gradient_back_are_not_dead():
    norms = [[(1, 1), (1, 1)], [(1, 0), (1, 0)], [(1, 1), (1, 1)]]
    assert cause(replace(GIVEN, health=health(*norms))).startswith("try ten times the learning rate")


@pytest.mark.parametrize(("loss", "is_told"), [(4.6, False), (4.7, True), (1.5e9, True)])
def test_a_loss_that_exploded(loss, is_told):
    rows = history((0.1, 0.1), (0.1, 0.1))
    rows[0] = replace(rows[0], train_loss=loss)
    said = f"training loss was {loss:.4g} in epoch 1, where guessing has 2.303; try a lower learning rate"
    assert (cause(rows=rows) == f"{said}, or `training.clip_grad_norm`") is is_told
    assert (cause(replace(GIVEN, clips=True), rows=rows) == said) is is_told


@pytest.mark.parametrize(("first", "is_told"), [(9e-4, True), (2e-3, False)])
def test_a_gradient_that_vanishes_on_its_way(first, is_told):
    found = cause(replace(GIVEN, health=health([(1, 1), (1, 1)], [(1, first), (1, 1)])))
    said = "the first layer's gradient is 9e-04 times that of the last; try activations such as `relu`, "
    assert found.startswith(said) is is_told


@pytest.mark.parametrize("decays", [True, False])
def test_weights_that_shrank(decays):
    shrunk = replace(GIVEN, health=health([(1, 1), (1, 1)], [(0.009, 0.1), (0.009, 0.1)]))
    found = cause(replace(shrunk, regularization=Regularization(decays=decays)))
    assert (found == "the weights have shrunk to nothing; try a smaller `training.l2`") is decays


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (GIVEN, "try ten times the learning rate, a tenth of it, another `init`, or look at it with `cnntrain probe`"),
        (
            replace(GIVEN, normalizes=False, regularization=Regularization(drops=True)),
            "try ten times the learning rate, a tenth of it, another `init`, `data.normalize: true`, less `dropout`, "
            "or look at it with `cnntrain probe`",
        ),
        (
            replace(GIVEN, trained=Guess(0.9, 100)),
            "try `training.shuffle: balanced`, ten times the learning rate, a tenth of it, another `init`, or look at "
            "it with `cnntrain probe`",
        ),
        (
            replace(GIVEN, trained=Guess(0.9, 100), balances=True),
            "try ten times the learning rate, a tenth of it, another `init`, or look at it with `cnntrain probe`",
        ),
    ],
)
def test_where_the_figures_say_nothing_of_the_cause(given, advice):
    assert cause(given) == advice


def test_what_falls_may_go_on_falling():
    rows = history((0.1, 0.1), (0.1, 0.1))
    assert cause(rows=[rows[0], replace(rows[1], train_loss=2.1)]).startswith(
        "try more `training.epochs`, ten times the"
    )
    assert cause(rows=[replace(rows[0], train_loss=2.0), rows[1]]).startswith("try ten times the learning rate, ")


def test_a_deep_network_may_need_other_layers():
    deep = replace(GIVEN, health=health([(1, 1)] * 9, [(1, 1)] * 9))
    assert "another `init`, `batch_norm` or `residual` layers, or look" in cause(deep)


def test_a_first_epoch_that_went_wrong_is_forgiven():
    rows = history((0.1, 0.1), (0.1, 0.1))
    assert cause(rows=[replace(rows[0], train_loss=9.0), replace(rows[1], train_loss=2.1)]).startswith("try more")


@pytest.mark.parametrize(
    ("before", "now", "count", "overfits"),
    [(0.1, 0.2, 1000, True), (0.1, 0.109, 1000, False), (0.1, 0.2, 9, False), (0.001, 0.009, 1000, False)],
)
def test_a_rise_by_little_is_noise(before, now, count, overfits):
    rows = history((0.9, 0.9), (1.0, 0.9))
    rows = [replace(rows[0], validation_loss=before), replace(rows[1], validation_loss=now, sample_loss=0.01)]
    judged = verdict(rows, replace(GIVEN, validated=Guess(0.1, count)))
    assert judged.overfits is overfits


def test_how_few_images_say_that_it_overfits_is_told():
    rows = history((0.9, 0.9), (1.0, 0.9))
    rows = [replace(rows[0], validation_loss=0.1), replace(rows[1], validation_loss=0.2, sample_loss=0.01)]
    text = verdict(rows, replace(GIVEN, validated=Guess(0.1, 50))).text
    assert " (0.1000 to 0.2000), measured on only 50 images of each; try " in text


@pytest.mark.parametrize(("count", "word"), [(1000, "unsteady"), (50, "no overfitting")])
def test_a_fall_by_an_image_or_two_is_noise(count, word):
    rows = history((0.98, 0.97), (0.95, 0.94))
    rows[1] = replace(rows[1], validation_loss=3.0, sample_loss=3.0)
    assert verdict(rows, replace(GIVEN, validated=Guess(0.1, count))).text.startswith(word)


def test_what_narrows_a_gap_stays():
    drops = replace(GIVEN, regularization=Regularization(drops=True))
    assert "less `dropout`" in verdict(history((0.8, 0.79)), drops).text
    judged = verdict(history((0.8, 0.61)), drops).text
    assert judged.startswith("underfitting: ") and "`dropout`" not in judged


def test_where_all_is_right_nothing_is_to_be_tried():
    rows = [replace(row, validation_loss=1 / row.epoch) for row in history((1.0, 0.9), (1.0, 1.0))]
    assert verdict(rows, GIVEN).text == "no overfitting: 100.00 % of training, 100.00 % of validation images"


def test_a_gap_that_may_be_chance_is_none():
    rows = [replace(row, sample_loss=0.1, validation_loss=0.2) for row in history((1.0, 0.97))]
    assert verdict(rows, GIVEN).text.startswith("a gap, but no overfitting: ")
    assert verdict(rows, replace(GIVEN, validated=Guess(0.1, 96))).text == (
        "no overfitting: 100.00 % of training, 97.00 % of validation images, measured on only 96 images of each"
    )


@pytest.mark.parametrize("rows", [((0.5, 0.5), (0.6, 0.6)), ((0.5, 0.5),)])
def test_what_has_it_train_longer_is_said(rows):
    rows = [replace(row, validation_loss=1 / row.epoch) for row in history(*rows)]
    assert f"try more `training.epochs`{', another' * (len(rows) == 1)}" in verdict(rows, GIVEN).text
    assert "try a larger `patience`" in verdict(rows, replace(GIVEN, longer="a larger `patience`")).text


@pytest.mark.parametrize(
    ("validation", "test", "count", "is_told"),
    [(0.95, 0.84, 1000, True), (0.95, 0.86, 1000, False), (0.95, 0.84, 50, False), (0.8, 0.95, 1000, False)],
)
def test_test_images_that_are_unlike_the_others(validation, test, count, is_told):
    said = unlike(replace(ROW, validation_accuracy=validation, test_accuracy=test), count, count)
    assert bool(said) is is_told
    assert said.startswith("test accuracy is 11.0 points below validation accuracy: " * is_told)


def test_all_right_and_all_wrong_have_no_deviation():
    assert unlike(replace(ROW, validation_accuracy=1.0, test_accuracy=1.0), 10, 10) == ""
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(0.9, math.inf) == 0


def run(epochs, **training):
    """A config, its splits, and the state that it ended in."""
    config = from_resolved({"network": ["softmax"], "data": {"normalize": True}, "training": {"l2": 0.1, **training}})
    train = Images(np.zeros((8, 1, 2, 2), np.uint8), np.array([0, 1, 2, 2, 2, 0, 1, 2]))
    network = build(config, (1, 2, 2), 3)
    rows = [replace(ROW, epoch=number, learning_rate=0.1 / number**8) for number in range(1, epochs + 1)]
    state = SimpleNamespace(network=network, epoch=epochs, history=rows, health=health([(1, 1)]))
    return config, Splits(("a", "b", "c"), train, train.take(slice(0, 2)), train), state


def test_circumstances_of_a_run():
    found = Circumstances.of(*run(10))
    assert found == Circumstances(
        Regularization(decays=True),
        normalizes=True,
        trained=Guess(0.5, 8),
        validated=Guess(0.5, 2, pytest.approx(0.5 + 0.5**0.5)),
        guess_loss=-math.log(0.25),
        even_loss=math.log(3),
        health=health([(1, 1)]),
    )
    assert found.trained.bound == 0.75
    assert Guess(0.5, 1000).bound == pytest.approx(0.5 + 2 * (0.25 / 1000) ** 0.5)
    other = Circumstances.of(*run(10, shuffle="balanced", clip_grad_norm=1.0))
    assert (other.balances, other.clips) == (True, True)
    assert (other.trained, other.guess_loss) == (Guess(1 / 3, 8), pytest.approx(math.log(3)))


@pytest.mark.parametrize(
    ("epochs", "schedule", "longer"),
    [
        (10, "cosine", "more `training.epochs`"),
        (10, {"step": 3}, "a `training.schedule` that falls more slowly"),
        (1, {"step": 3}, "a larger `patience`"),
    ],
)
def test_what_would_have_it_train_longer(epochs, schedule, longer):
    assert Circumstances.of(*run(epochs, schedule=schedule)).longer == longer
