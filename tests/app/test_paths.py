"""A program may name files and folders by text; what it then gets is what it gets with paths."""

import pytest
from PIL import Image

from cnntrain.app.compare import compare_runs
from cnntrain.app.configure import import_plugins, load_config
from cnntrain.app.doctor import examine
from cnntrain.app.ensemble import ensemble
from cnntrain.app.evaluate import evaluate_checkpoint
from cnntrain.app.export import export
from cnntrain.app.model import load_model
from cnntrain.app.predict import predict_images
from cnntrain.app.probe import probe_checkpoint
from cnntrain.app.report import report_run
from cnntrain.app.seeds.train import train_seeds
from cnntrain.app.show import layer_table
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.verify import verify
from cnntrain.app.where import Where
from cnntrain.data.images import Folders
from cnntrain.errors import UsageError

CPU = Where(device="cpu")
CLAIM = "training.epochs=1", "expect={seeds: 1, test_accuracy: {at_least: 1}}"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photos" / "x.png"
    path.parent.mkdir()
    Image.linear_gradient("L").resize((8, 8)).save(path)
    return path


def test_what_looks_at_a_run(trained):
    for look in (
        lambda run: load_model(run, CPU).classes,
        lambda run: evaluate_checkpoint(run, CPU),
        lambda run: ensemble([run], "mean", CPU),
        lambda run: compare_runs([run]),
        lambda run: probe_checkpoint(run, CPU),
        examine,
    ):
        assert look(str(trained)) == look(trained)


def test_what_is_classified(trained, picture):
    for inputs in (str(picture), picture, [picture], [str(picture)], str(picture.parent), [picture.parent]):
        (found,) = predict_images(str(trained), inputs, CPU)
        assert found.path == str(picture) and len(found.classes) == 1


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_classes_than_one_are_refused(trained, picture, count):
    with pytest.raises(UsageError, match=f"`top_k` is how many .*, at least 1, not {count}"):
        predict_images(trained, [str(picture)], CPU, top_k=count)


def test_what_writes(tiny, tmp_path):
    config = load_config(str(tiny), CLAIM)
    assert config == load_config(tiny, CLAIM)
    run = str(tmp_path / "run")
    assert train_run(config, run, CPU)["run_dir"] == run
    assert resume_run(run, ["training.epochs=2"], CPU)["epochs"] == 2
    assert report_run(run, CPU) == tmp_path / "run" / "report.html"
    assert export(run, "npz", f"{tmp_path}/out.npz") == tmp_path / "out.npz"
    assert export(run, "safetensors") == tmp_path / "run" / "best.safetensors"
    assert [one["seed"] for one in train_seeds(config, [0], f"{tmp_path}/seeds", CPU, 1)] == [0]
    (verified,) = verify("tiny", config, None, str(tmp_path / "tiny"), CPU, 1)
    assert verified.passed


def test_where_data_and_plugins_are(tiny, tmp_path):
    where = Where(data_dir=str(tmp_path), plugins=[str(tmp_path / "a.py")])
    assert where == Where(tmp_path, "auto", [tmp_path / "a.py"])
    assert (where.data_dir, list(where.plugins)) == (tmp_path, [tmp_path / "a.py"])
    assert list(Where(plugins=str(tmp_path / "a.py")).plugins) == [tmp_path / "a.py"]
    assert Where() == Where(None, "auto", ()) and Where().data_dir is None
    assert Folders.standard(str(tmp_path)).file("tiny.yaml") == tiny
    assert layer_table(load_config(tiny), str(tmp_path)) == layer_table(load_config(tiny), tmp_path)
    with pytest.raises(UsageError, match="can't read the plugin"):
        import_plugins(str(tmp_path / "a.py"))
