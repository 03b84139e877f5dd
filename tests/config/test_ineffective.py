"""Settings that have no effect beside others are told of."""

import pytest

from cnntrain.app import configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.ineffective import ineffective
from cnntrain.config.load import from_resolved


def told(**training):
    return list(ineffective(from_resolved({"network": ["softmax"], "training": training})))


@pytest.mark.parametrize(("patience", "is_told"), [(2, True), (3, True), (4, False)])
def test_an_end_before_the_first_halving(patience, is_told):
    early = {"patience": patience}
    said = told(schedule={"halve_on_plateau": {"patience": 3}}, early_stopping=early)
    assert (
        said
        == [
            "`training.early_stopping` ends the run before `halve_on_plateau` can lower the learning rate; give it a "
            "`patience` above 3"
        ]
        * is_told
    )
    assert told(schedule="cosine", early_stopping=early) == []
    assert told(schedule={"halve_on_plateau": {"patience": 3}}, early_stopping=early, epochs=2) == []
    assert told(schedule={"halve_on_plateau": {"patience": 3}}) == []


@pytest.mark.parametrize(("warmup", "reached"), [(5.0, None), (5.025, "99.5"), (50.0, "10")])
def test_a_warm_up_longer_than_the_run(warmup, reached):
    said = told(epochs=5, warmup_epochs=warmup)
    ending = f"is longer than the run: the learning rate comes to {reached} % of what it is to be"
    assert said == ([f"`training.warmup_epochs: {warmup:g}` {ending}"] if reached else [])
