"""`cnntrain show`: the layer table, the learning rate, the augmented images."""

import numpy as np
import pytest
from PIL import Image

from cnntrain import registry
from cnntrain.data.images import Folders
from cnntrain.data.sources.digits import digits
from cnntrain.reports.pictures import grid

SCHEDULES = [
    "constant", "{step: 3}", "{multi_step: [2, 5]}", "{exponential: 0.8}", "linear", "cosine", "one_cycle",
    "halve_on_plateau",
]  # fmt: skip


def test_layers(cnntrain, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("network:\n- conv_pool: {filters: 4, kernel_size: 3, activation: relu}\n- dropout\n- softmax\n")
    lines = [line.split() for line in cnntrain("show", config).out.splitlines()]
    assert lines[0] == ["layer", "output", "parameters", "MACs", "activations"]
    assert lines[2][-4:-2] == [str(4 * 9 + 4), "1,296"]
    # Kept for the gradient: the image, the convolution, indices of 8 bytes and outputs of the pooling.
    assert float(lines[2][-2]) == pytest.approx((64 * 4 + 4 * 36 * 4 + 4 * 9 * 8 + 4 * 9 * 4) / 1024, abs=0.05)
    # A dropout keeps what each value was multiplied with.
    assert float(lines[3][-2]) == pytest.approx(36 * 4 / 1024, abs=0.05)
    assert lines[-1][0:2] == ["total", str(40 + 370)]


def test_the_total_is_of_all_layers(cnntrain, tiny):
    lines = [
        line.replace(",", "").split() for line in cnntrain("show", tiny, "network.0.conv.filters=32").out.splitlines()
    ]
    *layers, total = ([float(word) for word in line[-4:-1]] for line in lines[2:])
    assert len(layers) == 5 and total[:2] == [sum(column) for column in list(zip(*layers, strict=True))[:2]]
    assert total[2] == pytest.approx(sum(layer[2] for layer in layers), abs=0.3)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_plotted(cnntrain, tiny, schedule):
    outcome = cnntrain("show", tiny, "--schedule", f"training.schedule={schedule}", "training.epochs=8")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith(f"learning rate by epoch: {schedule.strip('{').partition(':')[0]}, 0.1 at most")
    columns = list(zip(*(line[12:].ljust(64) for line in lines[1:13]), strict=True))
    heights = [sum(" ▁▂▃▄▅▆▇█".index(cell) for cell in column) for column in columns]
    assert max(heights) >= 8 * 12 - 1
    assert [line[:12] for line in lines[1:13]] == [
        f"{text:>10} |" for share in (" 0.1", " 0.075", " 0.05", " 0.025") for text in (share, "", "")
    ]
    end = "7" if "plateau" in schedule and len(lines) > 15 else "8"
    assert lines[13:15] == [" " * 11 + "+" + "-" * 64, " " * 12 + "0" + " " * 62 + end]
    if schedule in ("linear", "cosine", "{exponential: 0.8}"):
        assert heights == sorted(heights, reverse=True)
    if schedule == "linear":
        assert abs(heights[32] - 48) <= 2


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        ("{linear: {end: 0.2}}", "0.02"),
        ("linear", "0"),
        ("cosine", "0"),
        ("{one_cycle: {pct_start: 0.33, div_factor: 5, final_div_factor: 4}}", "0.005"),
        ("{step: 3}", "0.01"),
        ("{halve_on_plateau: {patience: 1, stop_at: 0.25}}", "0.05"),
    ],
)
def test_highest_and_last_learning_rates(cnntrain, tiny, schedule, end):
    text = cnntrain("show", tiny, "--schedule", f"training.schedule={schedule}", "training.epochs=4").out
    assert text.splitlines()[0].endswith(f", 0.1 at most, {end} at the end")


def test_the_books_rule_ends_at_a_128th(cnntrain, tiny):
    text = cnntrain("show", tiny, "--schedule", "training.schedule=halve_on_plateau", "training.epochs=100").out
    assert "training would end after epoch 71" in text
    assert "1/128" in text
    assert text.splitlines()[14].split() == ["0", "71"]


def test_an_optimizer_of_ones_own_without_a_learning_rate(cnntrain, tiny, monkeypatch):
    monkeypatch.setattr(registry.optimizers, "_entries", dict(registry.optimizers._entries))
    registry.optimizers.register("own")(lambda trainable, /: None)
    outcome = cnntrain("show", tiny, "--schedule", "training.optimizer=own")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: the optimizer `own` has no `learning_rate` to plot\n"


def test_a_plot_of_too_many_epochs_is_refused(cnntrain, tiny):
    assert cnntrain("show", tiny, "--schedule", "training.epochs=10000").code == 0
    outcome = cnntrain("show", tiny, "--schedule", "training.epochs=10001")
    assert (outcome.code, outcome.out) == (2, "")
    assert "a schedule over 10,001 epochs can't be plotted; the limit is 10,000" in outcome.err


def test_warm_up_is_plotted(cnntrain, tiny):
    text = cnntrain("show", tiny, "--schedule", "training.schedule=constant", "training.warmup_epochs=2").out
    assert text.splitlines()[1][12:].startswith(" " * 30)


def test_augmented_images(cnntrain, tiny, tmp_path):
    picture = tmp_path / "a.PNG"
    outcome = cnntrain("show", tiny, "--augment", picture)
    assert (outcome.code, outcome.out) == (0, f"{picture}\n")
    first = picture.read_bytes()
    pixels = np.asarray(Image.open(picture))
    assert pixels.shape[1] > pixels.shape[0] > 300
    assert cnntrain("show", tiny, "--augment", picture).code == 0
    assert picture.read_bytes() == first
    assert cnntrain("show", tiny, "--augment", picture, "seed=1").code == 0
    assert picture.read_bytes() != first
    images = digits(Folders.standard(None)).train.pixels
    plain = images[:: len(images) // 8][:8].repeat(10, 0) / 255
    assert cnntrain("show", tiny, "--augment", picture, "data.augment=[]").code == 0
    assert picture.read_bytes() == grid(plain, 10)
    expanded = ("data.augment=[]", "data.expand=one_pixel_shifts")
    assert cnntrain("show", tiny, "--augment", picture, *expanded).code == 0
    # As it is, and then in turns as it is and moved up, down, left and right.
    moved = plain.copy().reshape(8, 10, 8, 8)
    for column in range(1, 10):
        down, right = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))[(column - 1) % 5]
        moved[:, column] = np.pad(moved[:, 0], ((0, 0), (1, 1), (1, 1)))[:, 1 - down : 9 - down, 1 - right : 9 - right]
    assert picture.read_bytes() == grid(moved.reshape(80, 1, 8, 8), 10)
    # Both are done: what the first turns around, the second erases.
    both = "data.augment=[{flip: {p: 0.9999999}}, {erase: {size: 16}}]"
    assert cnntrain("show", tiny, "--augment", picture, both).code == 0
    erased = plain.copy().reshape(8, 10, 1, 8, 8)
    erased[:, 1:] = 0
    assert picture.read_bytes() == grid(erased.reshape(80, 1, 8, 8), 10)
    both = cnntrain("show", tiny, "--augment", picture, "--schedule").out.splitlines()
    assert both[0] == str(picture) and both[1].startswith("learning rate by epoch")


@pytest.mark.parametrize(
    ("schedule", "patience", "said"),
    [
        ("{halve_on_plateau: {patience: 3}}", 2, "training would end after epoch 3: `training.early_stopping`"),
        ("{halve_on_plateau: {patience: 3}}", 5, "training would end after epoch 6: `training.early_stopping`"),
        ("{halve_on_plateau: {patience: 1, stop_at: 0.5}}", 9, "would end after epoch 2: the learning rate was halved"),
        # What is known beforehand is drawn to its end.
        ("cosine", 2, None),
    ],
)
def test_an_early_end_is_foreseen(cnntrain, tiny, schedule, patience, said):
    early = f"training.early_stopping.patience={patience}"
    text = cnntrain("show", tiny, "--schedule", f"training.schedule={schedule}", early, "training.epochs=30").out
    assert (
        said is None
        or f"if validation accuracy never improved, {'' if 'training' in said else 'training '}{said}" in text
    )
    assert ("never improved" in text) is (said is not None)
