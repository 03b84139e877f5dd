"""Which training images are most like one, against the same found from all features at once."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cnntrain.app import similar
from cnntrain.app.display import Silent
from cnntrain.app.model import load_model, own_images, own_splits
from cnntrain.app.similar import most_similar
from cnntrain.app.train import train_run
from cnntrain.app.where import Where
from cnntrain.config.load import load
from cnntrain.data.images import Folders, Images


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained, Where(device="cpu"))


@pytest.fixture(scope="module")
def parts(model):
    return own_splits(model, ("train", "test"), Folders.standard(None), Silent())


@pytest.mark.parametrize("piece", [100, 1_294, 2_000])
def test_the_smallest_angles_between_what_the_last_layer_is_given(model, parts, monkeypatch, piece):
    monkeypatch.setattr(similar, "PIECE", piece)
    train, test = parts
    given = []
    last = [module for module in model.network.modules() if isinstance(module, nn.Linear)][-1]
    hook = last.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    for images in (train, test):
        with torch.no_grad():
            model.network(model.preprocessing.normalize(torch.from_numpy(images.pixels).float() / 255))
    hook.remove()
    cosines = functional.cosine_similarity(given[1][:20, None].double(), given[0][None].double(), dim=2)
    found = most_similar(model, test.take(np.arange(20)), train, 4, Silent())
    near = cosines.gather(1, torch.tensor(found))
    # Two that are equally near may change places.
    torch.testing.assert_close(near, cosines.topk(4).values, rtol=0, atol=1e-6)
    assert all(len(set(row)) == 4 for row in found)


def test_an_image_is_most_like_itself_and_the_network_stays_whole(model, parts):
    train, before = parts[0].take(np.arange(50)), {**model.network.state_dict()}
    assert [row[0] for row in most_similar(model, train, train, 1, Silent())] == list(range(50))
    assert model.network.state_dict().keys() == before.keys()


def test_of_few_all_are_found(model, parts):
    train, test = parts
    (row,) = most_similar(model, test.take(np.arange(1)), train.take(np.arange(3)), 5, Silent())
    assert sorted(row) == [0, 1, 2]


def test_images_on_disk_are_read_piece_by_piece(model, parts, monkeypatch):
    monkeypatch.setattr(similar, "PIECE", 10)
    train, test = (images.take(np.arange(25)) for images in parts)
    on_disk = Images(_Counted(train.pixels), train.labels)
    assert most_similar(model, test, on_disk, 2, Silent()) == most_similar(model, test, train, 2, Silent())
    assert on_disk.pixels.taken == [10, 10, 5]


class _Counted:
    def __init__(self, pixels):
        self.pixels, self.taken = pixels, []

    def __getitem__(self, rows):
        self.taken.append(len(rows))
        return self.pixels[rows]


HEADS = {
    "residual": "residual: {layers: [{conv: {filters: 10, kernel_size: 3, padding: 1}}]}}, global_avg_pool",
    "branches": "branches: [[{conv: {filters: 5, kernel_size: 1}}], [{conv: {filters: 5, kernel_size: 1}}]]}, flatten, "
    "{dense: 10}",
    "concatenated": "branches: [[{conv: {filters: 4, kernel_size: 1}}], [{conv: {filters: 6, kernel_size: 1}}]]}, "
    "global_avg_pool",
    "normalized": "conv: {filters: 10, kernel_size: 3}}, batch_norm, global_avg_pool",
    "scaled": "softmax: {dropout: 0.5}}, {scale: 0.5}",
}


@pytest.mark.parametrize("name", HEADS)
def test_networks_that_end_otherwise(name, tmp_path):
    first = "{conv: {filters: 6, kernel_size: 3, activation: relu}}"
    (tmp_path / "c.yaml").write_text(f"network: [{first}, {{{HEADS[name]}]\ntraining: {{epochs: 1}}")
    train_run(load(tmp_path / "c.yaml"), tmp_path / "run", Where(device="cpu"))
    model = load_model(tmp_path / "run", Where(device="cpu"))
    train = own_images(model, "train", Folders.standard(None), Silent()).take(np.arange(0, 1_000, 20))
    assert [row[0] for row in most_similar(model, train, train, 1, Silent())] == list(range(50))
    assert not any(module._forward_pre_hooks for module in model.network.modules())
