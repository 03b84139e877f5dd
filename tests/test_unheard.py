"""Warnings are silenced for a while, whoever else silences some meanwhile."""

import warnings
from threading import Event, Thread

import pytest
from PIL import Image

from cnntrain.data.sources import pictures
from cnntrain.run import checkpoint
from cnntrain.unheard import filtering


def test_they_are_heard_again_when_the_last_has_left(recwarn):
    warnings.simplefilter("always")
    before = list(warnings.filters)
    first, second = filtering(("ignore", UserWarning)), filtering(("error", RuntimeWarning))
    first.__enter__()
    warnings.warn("unheard", UserWarning, stacklevel=1)
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn("unheard", UserWarning, stacklevel=1)
    with pytest.raises(RuntimeWarning):
        warnings.warn("an error", RuntimeWarning, stacklevel=1)
    second.__exit__(None, None, None)
    assert warnings.filters == before
    warnings.warn("heard", UserWarning, stacklevel=1)
    assert [str(one.message) for one in recwarn.list] == ["heard"]


def test_what_fails_leaves_them_as_they_were():
    before = list(warnings.filters)
    with pytest.raises(OSError), filtering(("ignore", UserWarning)):
        raise OSError
    assert warnings.filters == before


def test_a_checkpoint_and_an_image_are_read_at_once(tmp_path, trained, monkeypatch):
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    within, may_go_on = Event(), Event()
    load = checkpoint.torch.load

    def slowly(*arguments, **options):
        within.set()
        assert may_go_on.wait(60)
        return load(*arguments, **options)

    def during(*arguments):
        # The checkpoint is begun first, and is read before the image is.
        may_go_on.set()
        reading.join(60)
        return Image.new("L", (2, 2))

    monkeypatch.setattr(checkpoint.torch, "load", slowly)
    monkeypatch.setattr(pictures, "_open", during)
    before = list(warnings.filters)
    reading = Thread(target=checkpoint.load, args=(trained,))
    reading.start()
    assert within.wait(60)
    pictures.open_picture(tmp_path / "x.png")
    assert not reading.is_alive() and warnings.filters == before
