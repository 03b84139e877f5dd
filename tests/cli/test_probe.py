"""`cnntrain probe`: signals at initialization and after training, and the law of scaled weights."""

import json

import numpy as np
import pytest

from cnntrain.cli.output import print_json
from cnntrain.training import evaluate

DEEP = """
init: %s
network:
  - repeat: {times: 6, layers: [{fully_connected: {units: 100, activation: %s}}]}
  - dense: 10
"""


def probed(cnntrain, tmp_path, text, *overrides):
    (tmp_path / "c.yaml").write_text(text)
    outcome = cnntrain("probe", tmp_path / "c.yaml", *overrides, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_relu_scales_by_c_to_the_number_of_layers(cnntrain, tmp_path):
    found = probed(cnntrain, tmp_path, DEEP % ("he", "relu"))
    assert found["depth"] == 7
    for one in found["scaling"]:
        assert one["predicted"] == one["factor"] ** 7
        assert one["ratio"] == pytest.approx(one["predicted"], rel=1e-4)
    confidences = [one["confidence"] for one in found["scaling"]]
    assert confidences == sorted(confidences)
    assert confidences[-1] > 0.9


@pytest.mark.parametrize(("normalization", "after"), [("batch_norm", 3), ("{group_norm: 2}", 2), ("layer_norm", 2)])
def test_scales_of_a_normalization_are_no_weights(cnntrain, tmp_path, normalization, after):
    text = "network: [{conv: {filters: 8}}, %s, {fully_connected: {units: 32, activation: relu}}, softmax]"
    found = probed(cnntrain, tmp_path, text % normalization)
    assert found["depth"] == 3
    # What is normalized image by image forgets how large it was; a batch's statistics are constants here.
    for one in found["scaling"]:
        assert one["ratio"] == pytest.approx(one["factor"] ** after, rel=0.02)


def test_sigmoid_does_not(cnntrain, tmp_path):
    found = probed(cnntrain, tmp_path, DEEP % ("glorot", "sigmoid"))
    assert found["scaling"][-1]["ratio"] < found["scaling"][-1]["predicted"] / 10


def test_he_keeps_the_signal_and_lecun_halves_its_square(cnntrain, tmp_path):
    def squares(init):
        layers = probed(cnntrain, tmp_path, DEEP % (init, "relu"), "data.normalize=true")["layers"]
        found = [one["mean"] ** 2 + one["std"] ** 2 for one in layers if one["name"].endswith("activation")]
        assert len(found) == 6
        return found

    he, lecun = squares("he"), squares("lecun")
    assert 0.3 < he[-1] / he[0] < 3
    assert (lecun[-1] / lecun[0]) / (he[-1] / he[0]) == pytest.approx(2**-5, rel=1e-3)


def test_dead_and_saturated(cnntrain, tmp_path):
    relu = "network: [{fully_connected: {units: 50, activation: relu}}, softmax]\ninit: book"
    layers = {one["name"]: one for one in probed(cnntrain, tmp_path, relu)["layers"]}
    assert 0 <= layers["0_fully_connected.activation"]["dead"] < 0.9
    assert layers["0_fully_connected.activation"]["saturated"] is None
    sigmoid = "network: [{fully_connected: 50}, softmax]\ninit: {normal: {std: 20}}"
    layers = {one["name"]: one for one in probed(cnntrain, tmp_path, sigmoid)["layers"]}
    assert layers["0_fully_connected.activation"]["saturated"] > 0.8
    assert layers["0_fully_connected.linear"]["gradient"] > 0


def test_text_says_what_json_says(cnntrain, tmp_path):
    text = "network: [{fully_connected: {units: 50, activation: sigmoid}}, {dense: 20}, {activation: relu}, softmax]"
    wide = "init={normal: {std: 2}}"
    found = probed(cnntrain, tmp_path, text, wide)
    title, columns, *lines = cnntrain("probe", tmp_path / "c.yaml", wide).out.splitlines()
    assert found["images"] == 512 and title == "at initialization, over 512 training images:"
    names = ["layer", "mean", "std", "dead", "saturated", "gradient norm"]
    ends = [columns.index(name) + len(name) for name in names]
    for line, one in zip(lines, found["layers"], strict=False):
        cells = [line[start:end].strip() for start, end in zip([0, *ends[1:]], ends[1:], strict=False)]
        shares = ["" if one[name] is None else f"{100 * one[name]:.1f} %" for name in ("dead", "saturated")]
        norm = "" if one["gradient"] is None else f"{one['gradient']:.3g}"
        assert [" ".join(cells[0].split()), *cells[1:]] == [
            f"{one['name']} {one['mean']:.3g}",
            f"{one['std']:.3g}",
            *shares,
            norm,
        ]
    assert any(one["dead"] for one in found["layers"]) and any(one["saturated"] for one in found["layers"])
    assert any(one["gradient"] for one in found["layers"])
    columns, *lines = lines[len(found["layers"]) + 2 :]
    assert columns.split() == ["all", "weights", "times", "logits", "times", "c^3", "confidence", "loss"]
    for line, one in zip(lines, found["scaling"], strict=False):
        figures = [f"{one['ratio']:.4g}", f"{one['predicted']:.4g}", f"{100 * one['confidence']:.1f}", "%"]
        assert line.split() == ["c", "=", f"{one['factor']:g}", *figures, f"{one['loss']:.3f}"]


def test_text_and_a_network_whose_logits_are_zero(cnntrain, tmp_path):
    (tmp_path / "c.yaml").write_text("network: [{conv_pool: {filters: 3, kernel_size: 3}}, softmax]\ninit: book")
    text = cnntrain("probe", tmp_path / "c.yaml").out
    assert "gradient norm" in text
    assert "c^2" in text
    note = "the last layer's weights start at zero, so no gradient passes below it yet"
    assert note in text
    assert note not in cnntrain("probe", tmp_path / "c.yaml", "network.1.softmax.init=lecun").out
    assert "c = 2            -" in " ".join(text.split("\n")) or " - " in text


def test_batch_norm_normalizes_by_the_batch_as_in_training(cnntrain, tmp_path):
    text = "network: [flatten, {dense: 20}, {scale: 9}, batch_norm, {dropout: 0.9}, {activation: relu}, softmax]"
    layers = {one["name"]: one for one in probed(cnntrain, tmp_path, text)["layers"]}
    assert layers["3_batch_norm"]["std"] == pytest.approx(1, abs=0.05)
    assert layers["5_activation"]["std"] > 0.5


def test_images_are_drawn_by_the_seed(cnntrain, tmp_path):
    text = "network: [{avg_pool: 2}, softmax]"
    one, again, other = (probed(cnntrain, tmp_path, text, f"seed={seed}")["layers"][0]["mean"] for seed in (0, 0, 1))
    assert one == again != other


def test_what_is_not_finite_is_null_in_json(cnntrain, tmp_path):
    (tmp_path / "c.yaml").write_text(DEEP % ("{normal: {std: 1.0e+20}}", "relu"))
    outcome = cnntrain("probe", tmp_path / "c.yaml", "--json")
    assert outcome.code == 0, outcome.err

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(outcome.out, parse_constant=refuse)["layers"][-1]["std"] is None


def test_json_has_no_word_for_what_is_not_finite(capsys):
    print_json({"a": (1.5, float("nan")), "b": [{"c": float("inf")}, -float("inf"), None, 10**20]})
    assert capsys.readouterr().out == '{"a": [1.5, null], "b": [{"c": null}, null, null, 100000000000000000000]}\n'


BRIEF = """
network:
  - fully_connected: {units: 40, activation: relu}
  - dropout: 0.3
  - fully_connected: {units: 30, activation: relu}
  - softmax
training: {epochs: 1, optimizer: {sgd: {learning_rate: %s}}}
"""


def after_training(cnntrain, tmp_path, learning_rate):
    (tmp_path / "c.yaml").write_text(BRIEF % learning_rate)
    assert cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run", "-q").code == 0
    outcome = cnntrain("probe", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_a_trained_network_is_probed_on_the_images_that_its_config_is_probed_on(cnntrain, tmp_path):
    unmoved = after_training(cnntrain, tmp_path, 1e-30)
    assert unmoved == json.loads(cnntrain("probe", tmp_path / "c.yaml", "--json").out)


def test_units_that_died_in_training_are_found(cnntrain, tmp_path):
    found = after_training(cnntrain, tmp_path, 1e3)
    before = {one["name"]: one for one in json.loads(cnntrain("probe", tmp_path / "c.yaml", "--json").out)["layers"]}
    after = {one["name"]: one for one in found["layers"]}
    name = "2_fully_connected.activation"
    assert before[name]["dead"] < 0.5 and after[name]["dead"] == 1.0 and after[name]["std"] == 0.0
    assert before["0_fully_connected.linear"]["gradient"] > 0 == after["0_fully_connected.linear"]["gradient"]
    text = cnntrain("probe", tmp_path / "run" / "checkpoints" / "last.pt").out
    assert text.startswith("after training, over 512 training images:\n") and "100.0 %" in text
    assert "start at zero" not in text


def test_of_large_layers_fewer_images_are_looked_at(cnntrain, tmp_path, monkeypatch):
    # 8 filters over images of 8x8.
    monkeypatch.setattr(evaluate, "VALUES", 8 * 64 * 37)
    text = "network: [{conv: {filters: 8, padding: same}}, softmax]"
    found = probed(cnntrain, tmp_path, text)
    assert found["images"] == 37 and all(np.isfinite(one["gradient"]) for one in found["layers"])


def test_a_trained_network_takes_no_overrides(cnntrain, trained):
    outcome = cnntrain("probe", trained, "init=he")
    assert outcome.code == 2 and not outcome.out
    assert outcome.err == (f"error: `init=he`: {trained} is trained, and can't be changed; overrides are for configs\n")
