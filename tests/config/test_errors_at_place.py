"""What is wrong in a config is said at its place: file, line, column, the line itself, a caret, and a remedy."""

import pytest

import cnntrain.app.configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved, load
from cnntrain.errors import LINE_LENGTH, ConfigError, Position, Problem

MANY = """\
netwrk: [softmax]
seed: x
training: {epochs: 0, batch_size: 1.5, optimizer: {sgd: {momentu: 3, nesterov: 1}}, schedule: cosin}
data:
  validation: yes
  augment:
    - shift
    - {shift: 0}
    - shuft: 1
  limit: no
"""


@pytest.fixture
def problems(tmp_path):
    def problems(text):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value) == "\n".join(map(str, caught.value.problems))
        return [(p.position.line, p.position.column, p.message) for p in caught.value.problems]

    return problems


def test_the_whole_form(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("network: [softmax]\n\ntraining:\n  epochs: 0    # none\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}:4:3: `epochs` should be greater than 0, not 0\n    4 |   epochs: 0    # none\n      |   ^"
    )
    assert caught.value.exit_code == 2


def test_a_wide_line_number():
    problem = Problem("wrong", Position("f", 123456, 3, "  x"))
    assert str(problem) == "f:123456:3: wrong\n123456 |   x\n       |   ^"


def test_no_position():
    assert str(Problem("wrong")) == "wrong"


@pytest.mark.parametrize("column", [1, 81, 200, 320, 400])
def test_of_a_long_line_the_part_around_the_place_is_shown(column):
    line = "".join(chr(0x100 + index) for index in range(400))
    _, shown, pointer = str(Problem("wrong", Position("f", 1, column, line))).split("\n")
    assert shown[pointer.index("^")] == line[column - 1]
    assert shown.startswith("    1 | ") and shown[8:] in line and len(shown[8:]) == LINE_LENGTH


@pytest.mark.parametrize(("count", "rest"), [(50, []), (51, ["and 1 more"]), (2050, ["and 2,000 more"])])
def test_of_many_problems_the_first_are_shown_and_the_others_counted(count, rest):
    said = str(ConfigError([Problem(f"wrong {number}") for number in range(count)]))
    assert said.split("\n") == [f"wrong {number}" for number in range(50)] + rest


def test_all_errors_at_once_in_reading_order(problems):
    assert problems(MANY) == [
        (1, 1, "unknown key `netwrk`; did you mean `network`?"),
        (1, 1, "`network` is missing"),
        (2, 1, "`seed` should be an integer, not 'x'"),
        (3, 12, "`epochs` should be greater than 0, not 0"),
        (3, 23, "`batch_size` should be an integer, not 1.5"),
        (3, 58, "unknown key `momentu`; did you mean `momentum`?"),
        (3, 70, "`nesterov` should be a boolean, not 1"),
        (3, 85, "unknown schedule `cosin`; did you mean `cosine`?"),
        (5, 3, "`validation` takes a mapping, not 'yes'"),
        (8, 8, "`pixels` should be greater than 0, not 0"),
        (9, 7, "unknown augmentation `shuft`; did you mean `shift`?"),
        (10, 3, "`limit` should be an integer, not 'no'"),
    ]


@pytest.mark.parametrize(
    ("layer", "column", "message"),
    [
        ("sofmax", 5, "unknown layer `sofmax`; did you mean `softmax`?"),
        ("{conv: {filter: 3}}", 13, "unknown key `filter`; did you mean `filters`?"),
        ("{conv: {filters: -1}}", 13, "`filters` should be greater than 0, not -1"),
        ("{conv: {filters: 3.0}}", 13, "`filters` should be an integer, not 3.0"),
        ("{conv: {filters: '3'}}", 13, "`filters` should be an integer, not '3'"),
        ("{conv: {filters: true}}", 13, "`filters` should be an integer, not True"),
        ("{conv: {filters: }}", 13, "`filters` should be an integer, not None"),
        ("{conv: {filters: 2147483648}}", 13, "`filters` should be less than 2147483648, not 2147483648"),
        ("{conv: {filters: 3, bias: 1}}", 25, "`bias` should be a boolean, not 1"),
        ("{conv: {filters: 3, activation: rleu}}", 25, None),
        ("conv", 5, "`filters` is missing"),
        ("{conv: }", 6, "`filters` is missing"),
        ("{conv: {}}", 6, "`filters` is missing"),
        ("{conv: {filters: 3, padding: [1, -1]}}", 38, "`1` should be greater than or equal to 0, not -1"),
        (
            "{conv: {filters: 3, padding: 2147483648}}",
            25,
            "`padding` should be less than 2147483648 or be a list or be 'same', not 2147483648",
        ),
        (
            "{conv: {filters: 3, padding: [1, 2, 3]}}",
            25,
            "`padding` should be an integer or be a list of two or be 'same', not [1, 2, 3]",
        ),
        ("{max_pool: [2]}", 6, "`kernel_size` should be an integer or be a list of two, not [2]"),
        ("{branches: []}", 6, "`branches` should have at least 2 items, not []"),
        ("{max_pool: 0}", 6, "`kernel_size` should be greater than 0 or be a list, not 0"),
        ("{dropout: 1}", 6, None),
        ("{dropout: 1.0}", 6, "`p` should be less than 1, not 1.0"),
        ("{dropout: -0.1}", 6, "`p` should be greater than or equal to 0, not -0.1"),
        ("{dropout: .nan}", 6, "`p` should be less than 1, not nan"),
        ("{scale: .inf}", 6, "`factor` should be a finite number, not inf"),
        ("{flatten: 3}", 6, "`flatten` takes no arguments"),
        ("{flatten: {x: 3}}", 16, "unknown key `x`"),
        ("{softmax: {init: hee}}", 16, "unknown initializer `hee`; did you mean `he`?"),
        ("{softmax: {init: {he: {distribution: unifrom}}}}", 28, None),
        ("{repeat: {times: 0, layers: [softmax]}}", 15, "`times` should be greater than 0, not 0"),
        ("{repeat: {times: 1, layers: softmax}}", 25, "`layers` should be a list, not 'softmax'"),
        ("{repeat: {times: 1, layers: [{dense: {unit: 3}}]}}", 43, "unknown key `unit`; did you mean `units`?"),
        ("{branches: [[softmax], [softmx]]}", 29, "unknown layer `softmx`; did you mean `softmax`?"),
        ("5", 5, "a layer is a name or `name: {arguments}`, not 5"),
        ("null", 5, "a layer is a name or `name: {arguments}`, not None"),
        ("[conv]", 5, "a layer is a name or `name: {arguments}`, not ['conv']"),
        ("{}", 5, "a layer is a name or `name: {arguments}`, not {}"),
        (
            "{softmax: 1, dropout: 2}",
            5,
            "one layer has one key, this has `softmax`, `dropout`; indent its arguments, or write two items",
        ),
    ],
)
def test_layers(problems, layer, column, message):
    found = problems(f"network:\n  - softmax\n  - {layer}\n")
    assert (3, column) in {(line, at) for line, at, _ in found}
    if message:
        assert (3, column, message) in found


def test_nothing_near_lists_all(problems):
    [(_, _, message)] = problems("network: [zzz]\n")
    assert message.startswith("unknown layer `zzz`; known: activation, avg_pool, ")
    [(_, _, message)] = problems("network: [softmax]\nxyz: 3\n")
    assert (
        message == "unknown key `xyz`; known: data, dropout_scaling, expect, init, init_from, network, seed, training"
    )


@pytest.mark.parametrize(
    ("layer", "column", "message"),
    [
        ("{max_pool: x}", 6, "`kernel_size` should be an integer or be a list, not 'x'"),
        ("{max_pool: 2.5}", 6, "`kernel_size` should be an integer or be a list, not 2.5"),
        (
            "{conv: {filters: 3, padding: smae}}",
            25,
            "`padding` should be an integer or be a list or be 'same', not 'smae'",
        ),
        (
            "{conv: {filters: 3, padding: {a: 1}}}",
            25,
            "`padding` should be an integer or be a list or be 'same', not {'a': 1}",
        ),
        (
            "{conv: {filters: 3, padding: .inf}}",
            25,
            "`padding` should be an integer or be a list or be 'same', not inf",
        ),
        ("{conv: {filters: 3, kernel_size: {}}}", 25, "`kernel_size` should be an integer or be a list, not {}"),
    ],
)
def test_a_union_says_one_message(problems, layer, column, message):
    assert problems(f"network:\n  - softmax\n  - {layer}\n") == [(3, column, message)]


@pytest.mark.parametrize("size", ["[1, 2, 3]", "[1]", "[]", "[1, x]", "[1, 0]"])
def test_a_wrong_list_says_what_is_wrong_in_it(problems, size):
    [(line, column, message)] = problems(f"network:\n  - max_pool: {{kernel_size: {size}}}\n  - softmax\n")
    assert (line, column) in {(2, 16), (2, 33)}
    assert "constrained" not in message
    assert "2 items" in message or "should be an integer" in message or "greater than 0" in message


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("seed: -1", "`seed` should be greater than or equal to 0, not -1"),
        ("seed: 2147483648", "`seed` should be less than 2147483648, not 2147483648"),
        ("seed: 1e3", "`seed` should be an integer, not 1000.0"),
        ("seed:", "`seed` should be an integer, not None"),
        ("training: 5", "`training` takes a mapping, not 5"),
        ("training:", "`training` takes a mapping, not None"),
        ("data: [digits]", "`data` takes a mapping, not ['digits']"),
        ("network: {softmax: 0.5}", "`network` should be a list, not {'softmax': 0.5}"),
        ("dropout_scaling: bok", "`dropout_scaling` should be 'inverted' or 'book', not 'bok'"),
        ("init: hee", "unknown initializer `hee`; did you mean `he`?"),
    ],
)
def test_top_level(problems, key, message):
    text = f"{key}\n" if key.startswith("network") else f"{key}\nnetwork: [softmax]\n"
    assert problems(text) == [(1, 1, message)]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("l2: -1", "`l2` should be greater than or equal to 0, not -1"),
        ("l2: .nan", None),
        ("l2: .inf", "`l2` should be a finite number, not inf"),
        ("l2: 1e-3x", "`l2` should be a number, not '1e-3x'"),
        ("clip_grad_norm: .inf", "`clip_grad_norm` should be a finite number, not inf"),
        ("clip_grad_norm: 0", "`clip_grad_norm` should be greater than 0, not 0"),
        ("label_smoothing: 1", "`label_smoothing` should be less than 1, not 1"),
        ("shuffle: no", "`shuffle` should be 'always', 'balanced', 'once' or 'never', not 'no'"),
        ("schedule: step", "`step_size` is missing"),
        ("optimizer: [sgd]", "an optimizer is a name or `name: {arguments}`, not ['sgd']"),
        ("early_stopping: true", "`early_stopping` takes a mapping, not True"),
        ("lr: 0.1", None),
        ("epochs: 99999999999999999999999999", None),
    ],
)
def test_training(problems, key, message):
    [(line, column, said)] = problems(
        f"network: [softmax]\ntraining:\n  epochs: 3\n  {key}\n".replace("  epochs: 3\n  epochs", "  epochs")
    )
    assert column == 3
    assert line in (3, 4)
    assert message is None or said == message


@pytest.mark.parametrize("accuracy", ["-1", "100.5", ".nan", ".inf", "high"])
def test_a_claim_is_a_percentage(problems, accuracy):
    found = problems(f"network: [softmax]\nexpect:\n  test_accuracy: {{at_least: {accuracy}}}\n")
    assert {(line, column) for line, column, _ in found} == {(3, 19)}


def test_an_empty_network(problems):
    [(line, column, message)] = problems("seed: 1\nnetwork: []\n")
    assert (line, column) == (2, 1)
    assert "at least 1 item" in message


def test_braces_in_what_the_user_wrote(problems):
    assert problems('network: ["{message}", "{x"]\n')[0][2].startswith("unknown layer `{message}`; known: ")
    assert problems('network: [softmax]\n"{0}": 1\n')[0][2].startswith("unknown key `{0}`; known: ")


def test_long_values_are_cut(problems):
    [(_, _, message)] = problems(f"network: [softmax]\nseed: {'x' * 500}\n")
    assert message == f"`seed` should be an integer, not '{'x' * 56}..."
    [(_, _, message)] = problems(f"network: [softmax]\nseed: {'x' * 58}\n")
    assert message == f"`seed` should be an integer, not '{'x' * 58}'"


def test_an_item_is_told_of_alone(problems):
    found = problems("network: [softmax]\ntraining:\n  schedule: {multi_step: [2, x]}\n")
    assert found == [(3, 30, "`1` should be an integer, not 'x'")]


def test_errors_of_one_line_go_from_left_to_right(problems):
    found = problems("network: [softmax]\ntraining: {shuffle: no, l2: -1, epochs: 0}\n")
    assert [(line, column) for line, column, _ in found] == [(2, 12), (2, 25), (2, 33)]


def test_an_error_found_later_points_into_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("network:\n  - conv: {filters: 3}\n  - softmax\n")
    error = load(path).error(("network", 0, "conv", "filters"), "too few")
    assert str(error) == f"{path}:2:12: too few\n    2 |   - conv: {{filters: 3}}\n      |            ^"
    assert str(from_resolved({"network": ["softmax"]}).error(("network", 0), "wrong")) == "network.0: wrong"


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        ("optimizer: {sgd: {nesterov: true}}", (3, 21), "`nesterov` needs a `momentum` above 0"),
        ("l2: 0.1\n  optimizer: adamw", (3, 3), "`l2` is part of the gradient, but `adamw` decouples decay from it; "),
    ],
)
def test_settings_that_exclude_each_other(problems, lines, place, message):
    [(line, column, said)] = problems(f"network: [softmax]\ntraining:\n  {lines}\n")
    assert (line, column) == place
    assert said.startswith(message)


@pytest.mark.parametrize("lines", ["optimizer: {sgd: {nesterov: true, momentum: 0.5}}", "l2: 0.0\n  optimizer: adamw"])
def test_settings_that_go_together(tmp_path, lines):
    path = tmp_path / "c.yaml"
    path.write_text(f"network: [softmax]\ntraining:\n  {lines}\n")
    assert load(path).training.optimizer.name in ("sgd", "adamw")


def test_a_momentum_that_is_no_number_is_told_of_alone(problems):
    found = problems("network: [softmax]\ntraining:\n  optimizer: {sgd: {momentum: a, nesterov: true}}\n")
    assert found == [(3, 21, "`momentum` should be a number, not 'a'")]
