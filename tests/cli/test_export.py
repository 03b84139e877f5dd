"""`export`: a checkpoint for programs that know nothing of this one."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from cnntrain.app.export import export
from cnntrain.app.model import load_model
from cnntrain.app.predict import predict_images
from cnntrain.app.where import Where
from cnntrain.config.load import load, resolved
from cnntrain.data.preprocess import Preprocessing
from cnntrain.errors import UsageError
from cnntrain.network.build import build
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint

# On a GPU's machine it may be missing, and the tests that run there are others.
onnxruntime = pytest.importorskip("onnxruntime")

# All layers, each kind of what is done differently while training.
LAYERS = """
data: {source: digits, normalize: true}
dropout_scaling: %s
network:
  - conv_pool: {filters: 4, kernel_size: 1, pool_size: 1, activation: tanh}
  - whitened_conv: {kernel_size: 1, activation: tanh}
  - depthwise_conv: {kernel_size: 3, padding: same, activation: gelu}
  - batch_norm
  - group_norm: 2
  - layer_norm
  - {scale: 0.5}
  - {activation: mish}
  - residual:
      activation: relu
      layers: [{conv: {filters: 8, kernel_size: 1, stride: 2, activation: silu}}, {dropout: 0.5}]
  - branches: [[{max_pool: 2}], [{avg_pool: 2}]]
  - repeat: {times: 2, layers: [{conv: {filters: 8, kernel_size: 3, padding: same, activation: celu}}]}
  - %s
  - {dense: {units: 9, activation: leaky_relu}}
  - fully_connected: {units: 7, activation: softplus, dropout: 0.5}
  - softmax: {dropout: 0.5}
"""


def saved_of(path, config, shape, classes):
    """A checkpoint of a network whose weights are not those that it begins with."""
    torch.manual_seed(0)
    network = build(config, shape, classes)
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            if value.is_floating_point():
                value.uniform_(0.2, 0.6)
    preprocessing = Preprocessing(shape, (0.3,) * shape[0], (0.7,) * shape[0]).to_dict()
    names = [f"class {number}" for number in range(classes)]
    weights = network.state_dict()
    checkpoint.save(path, Checkpoint(resolved(config), names, preprocessing, weights, None, {}, {}, None))
    return path


def answers(file, images):
    session = onnxruntime.InferenceSession(file)
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape[1:], made.name) == ("images", list(images.shape[1:]), "probabilities")
    return session.run(None, {"images": images})[0], session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("scaling", "flat"), [("inverted", "flatten"), ("book", "global_avg_pool")])
def test_an_onnx_file_answers_as_the_network(tmp_path, scaling, flat, channels):
    (tmp_path / "c.yaml").write_text(LAYERS % (scaling, flat))
    config = load(tmp_path / "c.yaml")
    path = saved_of(tmp_path / "x.pt", config, (channels, 8, 8), 5)
    file, model = export(path, "onnx"), load_model(path, Where(device="cpu"))
    assert file == tmp_path / "x.onnx"
    for count in (1, 2, 40):
        images = torch.rand(count, channels, 8, 8)
        with torch.inference_mode():
            expected = model.network.eval()(model.preprocessing.normalize(images)).softmax(1).numpy()
        found, _ = answers(file, images.numpy())
        assert found == pytest.approx(expected, abs=1e-6)
        assert np.ptp(expected) > 0.01


def test_a_trained_network_in_another_program(cnntrain, trained, tmp_path):
    outcome = cnntrain("export", trained, "--format", "onnx", "--output", tmp_path / "n.onnx")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{tmp_path / 'n.onnx'}\n", "")
    saved = checkpoint.load(trained)
    drawn = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(drawn).save(tmp_path / "x.png")
    found, metadata = answers(tmp_path / "n.onnx", (drawn / 255).astype(np.float32)[None, None])
    assert {name: json.loads(text) for name, text in metadata.items()} == {
        "config": saved.config,
        "classes": saved.classes,
        "preprocessing": saved.preprocessing,
    }
    (said,) = predict_images(trained, [str(tmp_path / "x.png")], Where(device="cpu"), top_k=10)
    assert dict(zip(said.classes, said.probabilities, strict=True)) == pytest.approx(
        dict(zip(saved.classes, found[0].tolist(), strict=True)), abs=1e-6
    )


def test_without_its_package_it_says_which(trained, tmp_path):
    code = (
        "import sys; sys.modules['onnxscript'] = None\n"
        "from cnntrain.cli.main import main\n"
        f"sys.argv = ['cnntrain', 'export', {str(trained)!r}, '--output', {str(tmp_path / 'n.onnx')!r}]\n"
        "sys.argv += ['--format', 'onnx']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: `--format onnx` needs another package: pip install onnxscript\n"
    assert list(tmp_path.iterdir()) == []


def test_with_a_package_that_is_too_old_it_says_so(cnntrain, trained, tmp_path, monkeypatch):
    def export(*arguments, **options):
        raise ModuleNotFoundError("No module named 'onnxscript._framework_apis.torch_2_11'")

    monkeypatch.setattr(torch.onnx, "export", export)
    outcome = cnntrain("export", trained, "--format", "onnx", "--output", tmp_path / "n.onnx")
    assert outcome.code == 2 and not outcome.out
    said = "No module named 'onnxscript._framework_apis.torch_2_11'"
    assert outcome.err == f"error: `--format onnx` needs a newer onnxscript: pip install -U onnxscript ({said})\n"
    assert list(tmp_path.iterdir()) == []


def test_what_others_print_meanwhile_is_theirs(cnntrain, trained, tmp_path, monkeypatch, capsys):
    def export_(*arguments, **options):
        sys.stdout.write("somebody's output\n")
        sys.stderr.write("somebody's error\n")
        raise ModuleNotFoundError("what is old")

    monkeypatch.setattr(torch.onnx, "export", export_)
    with pytest.raises(UsageError, match="what is old"):
        export(trained, "onnx", tmp_path / "n.onnx")
    heard = capsys.readouterr()
    assert (heard.out, heard.err) == ("somebody's output\n", "somebody's error\n")
    # What the command does is its own.
    alone = cnntrain("export", trained, "--format", "onnx", "--output", tmp_path / "n.onnx")
    assert not alone.out and alone.err.startswith("error: ") and alone.err.count("\n") == 1


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("values.sum().item() > 0", "Could not guard on data-dependent expression"),
        ("len(values) < 8", "a layer does something else for each number of images"),
    ],
)
def test_what_onnx_can_not_say_is_one_message(tmp_path, condition, why):
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "import torch\nfrom cnntrain.registry import layers\n"
        "class Odd(torch.nn.Module):\n"
        f"    def forward(self, values):\n        return values.sin() if {condition} else values\n"
        "@layers.register('odd')\n"
        "def odd(given, /):\n    'It depends.'\n    return Odd()\n"
    )
    (tmp_path / "c.yaml").write_text("data: {source: digits}\nnetwork: [odd, softmax]\n")
    # A process of its own, for names stay registered.
    code = (
        "import sys\nfrom pathlib import Path\nsys.path[:0] = ['.', 'tests']\n"
        "from cnntrain.app.configure import load_config\n"
        "from tests.cli.test_export import saved_of\n"
        f"plugin, folder = Path({str(plugin)!r}), Path({str(tmp_path)!r})\n"
        "saved_of(folder / 'x.pt', load_config(folder / 'c.yaml', (), [plugin]), (1, 8, 8), 5)\n"
        "from cnntrain.cli.main import main\n"
        "sys.argv = ['cnntrain', 'export', str(folder / 'x.pt'), '--format', 'onnx', '--plugin', str(plugin)]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: this network can't be written as ONNX: {why}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x.onnx").exists()
