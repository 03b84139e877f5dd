"""Decoded once: image files in the memory-mapped cache, and arrays that are larger than the memory budget."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from cnntrain.app.configure import load_config
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.data import cache
from cnntrain.data.cache import check_room, spilled
from cnntrain.data.images import Folders, Images
from cnntrain.data.preprocess import Preprocessing
from cnntrain.data.sources.decode import FEW, PIECE_FILES, decoded
from cnntrain.data.sources.folders import csv_file, image_folder
from cnntrain.data.sources.pictures import fitted, open_picture
from cnntrain.data.sources.reuse import Known
from cnntrain.data.splits import duplicates
from cnntrain.errors import DataError, Interrupted
from cnntrain.run import checkpoint
from tests.training.test_resume import InterruptAt, assert_same

RANDOM = np.random.default_rng(0)


def paint(folder, count, channels=3, size=(5, 4)):
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        shape = (*size, channels) if channels == 3 else size
        Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return paths


class Told:
    """What is told of the work, in its order."""

    def __init__(self):
        self.all = []

    def say(self, line):
        self.all.append(line)

    def progress(self, *how_far):
        self.all.append(how_far)


def read(paths, cache, size=None, channels=None):
    told = Told()
    found = decoded([paths[0].parent.parent], paths, size, channels, cache, told)
    return found, told.all


def shown(paths, size=None, channels=None):
    """What the files show, (images, channels, height, width): grey if all of them are, else in colours."""
    arrays = [np.atleast_3d(fitted(open_picture(path), size, channels)) for path in paths]
    planes = max(array.shape[2] for array in arrays)
    return np.stack([array.repeat(planes // array.shape[2], axis=2) for array in arrays]).transpose(0, 3, 1, 2)


def entries(cache):
    return [path for path in (cache / "pixels").iterdir() if path.is_dir()]


@pytest.mark.parametrize("kind", ["colours", "greys", "both", "resized", "asked for greys"])
def test_what_is_decoded_is_what_the_files_show(kind, tmp_path, monkeypatch):
    # In several pieces, of which one has greys alone though others have colours.
    monkeypatch.setattr("cnntrain.data.sources.decode.PIECE_FILES", 2)
    paths = paint(tmp_path / "a", 5, channels=1 if kind == "greys" else 3)
    paths += paint(tmp_path / "b", 3, channels=1) if kind == "both" else []
    size, channels = (7, 9) if kind == "resized" else None, 1 if kind == "asked for greys" else None
    expected = shown(paths, size, channels)
    for _ in range(2):
        found, _ = read(paths, tmp_path / "cache", size, channels)
        assert (found.shape, found.dtype) == (expected.shape, np.uint8)
        assert np.array_equal(found[:], expected)
        order = np.array([2, 0, 2])
        taken, chosen = found.take(slice(1, None)).take(order), expected[1:][order]
        assert np.array_equal(taken[:], chosen)
        assert (taken.shape, taken.nbytes) == (chosen.shape, chosen.nbytes)
        assert Images(found, np.arange(len(paths))).fingerprint == Images(expected, np.arange(len(paths))).fingerprint


def test_many_files_are_decoded_by_processes_and_only_once(tmp_path):
    paths = paint(tmp_path / "a", (FEW + 1) * PIECE_FILES, channels=1)
    found, told = read(paths, tmp_path / "cache")
    assert told[0] == f"decoding {len(paths):,} image files, which is done once"
    assert told[-1] == (len(paths), len(paths), "decoding images")
    assert np.array_equal(found[:], shown(paths))
    assert read(paths, tmp_path / "cache")[1] == []
    paths += paint(tmp_path / "b", 3, channels=1)
    found, told = read(paths, tmp_path / "cache")
    assert told[0] == f"decoding 3 of {len(paths):,} image files, which is done once"
    assert np.array_equal(found[:], shown(paths))


def test_a_changed_file_makes_a_new_entry_in_the_place_of_the_old(tmp_path):
    paths = paint(tmp_path / "a", 3)
    read(paths, tmp_path / "cache")
    [old] = entries(tmp_path / "cache")
    # As a process leaves it that is killed while it decodes.
    (old.parent / f".{old.name}abc.part").mkdir()
    paint(tmp_path / "a", 1)
    os.utime(paths[0], ns=(1, 1))
    assert np.array_equal(read(paths, tmp_path / "cache")[0][:], shown(paths))
    [new] = entries(tmp_path / "cache")
    assert new != old


@pytest.mark.parametrize("name", ["pixels", "digests", "header.json"])
@pytest.mark.parametrize("damage", ["cut off", "missing", "another's", "brackets"])
def test_an_entry_that_is_not_whole_is_made_again(name, damage, tmp_path):
    paths = paint(tmp_path / "a", 3)
    read(paths, tmp_path / "cache")
    [place] = entries(tmp_path / "cache")
    content = (place / name).read_bytes()
    (place / name).unlink()
    if damage != "missing":
        damaged = {"cut off": content[:-1], "another's": b"{}" + content, "brackets": b"[" * 200_000}[damage]
        (place / name).write_bytes(damaged)
    assert np.array_equal(read(paths, tmp_path / "cache")[0][:], shown(paths))


@pytest.mark.parametrize(("name", "old", "new"), [("digests", None, b"x"), ("header.json", b"pixels 2", b"pixels 1")])
def test_an_entry_of_other_digests_or_of_another_format_is_made_again(name, old, new, tmp_path):
    paths = paint(tmp_path / "a", 3)
    expected = Images(read(paths, tmp_path / "cache")[0], np.arange(3)).fingerprint
    [place] = entries(tmp_path / "cache")
    content = (place / name).read_bytes()
    (place / name).write_bytes(content.replace(old, new) if old else new + content[1:])
    assert (place / name).read_bytes() != content
    assert Images(read(paths, tmp_path / "cache")[0], np.arange(3)).fingerprint == expected
    assert (place / name).read_bytes() == content


def test_files_that_change_places_are_other_images(tmp_path):
    folder = tmp_path / "data"
    for name, value in (("a", 10), ("b", 200)):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(folder / name / "0.bmp")
        os.utime(folder / name / "0.bmp", (1_000_000_000, 1_000_000_000))
    folders = Folders(None, tmp_path / "cache")
    assert [int(image.mean()) for image in image_folder(folders, str(folder)).train.pixels[:]] == [10, 200]
    one, other = folder / "a" / "0.bmp", folder / "b" / "0.bmp"
    one.rename(tmp_path / "0.bmp")
    other.rename(one)
    (tmp_path / "0.bmp").rename(other)
    assert one.stat().st_mtime == other.stat().st_mtime
    assert [int(image.mean()) for image in image_folder(folders, str(folder)).train.pixels[:]] == [200, 10]


def opened(monkeypatch):
    """The names of the files that are opened from now on."""
    names = []

    def noting(path, **options):
        names.append(path.name)
        return open_picture(path, **options)

    monkeypatch.setattr("cnntrain.data.sources.decode.open_picture", noting)
    return names


@pytest.mark.parametrize("size", [None, (7, 9)])
@pytest.mark.parametrize(("before", "after"), [(3, 3), (1, 1), (1, 3), (3, 1)])
def test_only_what_is_new_is_decoded(size, before, after, tmp_path, monkeypatch):
    paths = paint(tmp_path / "a", 6, channels=before)
    read(paths, tmp_path / "cache", size)
    paths[1].unlink()
    [new] = paint(tmp_path / "b", 1, channels=after)
    [changed] = paint(tmp_path / "a" / "other", 1)
    changed.replace(paths[4])
    # In another order, too.
    asked = [new, *paths[:0:-1][:-1], paths[0]]
    names = opened(monkeypatch)
    decoding = read(asked, tmp_path / "cache", size)[0]
    # Without a size, the first one says which.
    assert sorted(set(names)) == ["0.png", "4.png"]
    assert np.array_equal(decoding[:], shown(asked, size))
    whole = read(asked, tmp_path / "another", size)[0]
    assert np.array_equal(decoding.digests, whole.digests) and len(entries(tmp_path / "cache")) == 1


def test_greys_among_colours_are_told_apart_as_if_all_were_new(tmp_path):
    colours, greys = paint(tmp_path / "a", 3), paint(tmp_path / "b", 3, channels=1)
    assert read([*colours, *greys], tmp_path / "cache")[0].shape[1] == 3
    found = read([greys[0], *greys], tmp_path / "cache")[0]
    assert found.shape[1] == 1 and np.array_equal(found[:], shown([greys[0], *greys]))
    found = read([*greys, colours[1]], tmp_path / "cache")[0]
    assert found.shape[1] == 3 and np.array_equal(found[:], shown([*greys, colours[1]]))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_that_is_no_image_costs_the_others_nothing(channels, tmp_path, monkeypatch):
    monkeypatch.setattr("cnntrain.data.sources.decode.PIECE_FILES", 3)
    paths = paint(tmp_path / "a", 8, channels=channels)
    content = paths[4].read_bytes()
    paths[4].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"4\.png: can't be read as an image"):
        read(paths, tmp_path / "cache")
    names = opened(monkeypatch)
    with pytest.raises(DataError, match=r"4\.png: can't be read as an image"):
        read(paths, tmp_path / "cache")
    assert set(names) == {"0.png", "4.png"}, "of which the first says how large all are"
    names.clear()
    left = [*paths[:4], *paths[5:]]
    assert np.array_equal(read(left, tmp_path / "cache")[0][:], shown(left))
    assert names == ["0.png"]
    paths[4].write_bytes(content)
    assert np.array_equal(read(paths, tmp_path / "cache")[0][:], shown(paths))
    assert set(names) == {"0.png", "4.png"} and len(entries(tmp_path / "cache")) == 1


def test_where_no_file_is_an_image_nothing_is_left_behind(tmp_path):
    paths = paint(tmp_path / "a", 3)
    for path in paths:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3 of 3 images can't be used"):
        read(paths, tmp_path / "cache", size=(4, 4))
    assert [path.suffix for path in (tmp_path / "cache" / "pixels").iterdir()] == [".lock"]


@pytest.mark.parametrize("damage", ["pixels", "marks", "no marks"])
def test_what_is_damaged_is_not_taken_over(damage, tmp_path):
    paths = paint(tmp_path / "a", 3)
    read(paths, tmp_path / "cache")
    [place] = entries(tmp_path / "cache")
    if damage == "no marks":
        (place / "marks").unlink()
    else:
        content = bytearray((place / damage).read_bytes())
        content[5] ^= 1
        (place / damage).write_bytes(content)
    paths += paint(tmp_path / "b", 1)
    assert np.array_equal(read(paths, tmp_path / "cache")[0][:], shown(paths))


def test_where_there_is_no_room_for_both_the_older_one_goes_first(tmp_path, monkeypatch):
    paths = paint(tmp_path / "a", 4)
    read(paths, tmp_path / "cache")
    [old] = entries(tmp_path / "cache")
    names, needed = opened(monkeypatch), 5 * 4 * 5 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1 + needed * (not old.exists())))
    paths += paint(tmp_path / "b", 1)
    assert np.array_equal(read(paths, tmp_path / "cache")[0][:], shown(paths))
    assert {*names} == {"0.png", "1.png", "2.png", "3.png"}
    names.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    read(paths[1:], tmp_path / "cache")
    assert {*names} == {"1.png"}


def test_another_decoder_decodes_all(tmp_path, monkeypatch):
    paths = paint(tmp_path / "a", 3)
    read(paths, tmp_path / "cache")
    names = opened(monkeypatch)
    monkeypatch.setattr("cnntrain.data.sources.reuse.DECODER", 0)
    read(paths[:2], tmp_path / "cache")
    assert {*names} == {"0.png", "1.png"}


@pytest.mark.parametrize("is_bad", [False, True])
@pytest.mark.parametrize("stopped", [KeyboardInterrupt, OSError])
def test_what_ends_the_exchange_of_entries_costs_one_of_them_at_most(stopped, is_bad, tmp_path, monkeypatch):
    paths = paint(tmp_path / "a", 4)
    read(paths, tmp_path / "cache")
    [new] = paint(tmp_path / "b", 1)
    if is_bad:
        new.write_bytes(b"no image")

    def stop(*_):
        raise stopped

    monkeypatch.setattr("cnntrain.data.cache.Path.rename", stop)
    with pytest.raises((KeyboardInterrupt, DataError)):
        read([*paths, new], tmp_path / "cache")
    monkeypatch.undo()
    names = opened(monkeypatch)
    paint(tmp_path / "b", 1)
    assert np.array_equal(read([*paths, new], tmp_path / "cache")[0][:], shown([*paths, new]))
    assert {*names} == {"0.png"} and len(entries(tmp_path / "cache")) == 1


def test_what_could_not_be_removed_goes_later(tmp_path, monkeypatch):
    paths = paint(tmp_path / "a", 4)
    read(paths, tmp_path / "cache")
    monkeypatch.setattr("cnntrain.data.cache.shutil.rmtree", lambda *_, **__: None)
    read(paths[1:], tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 2
    monkeypatch.undo()
    assert np.array_equal(read(paths[1:], tmp_path / "cache")[0][:], shown(paths[1:]))
    assert len(entries(tmp_path / "cache")) == 1


@pytest.mark.parametrize("how", ["cut off after the look", "of another type", "of other dimensions"])
def test_an_older_entry_that_can_not_be_copied_from(how, tmp_path, monkeypatch):
    paths = paint(tmp_path / "a", 4)
    read(paths, tmp_path / "cache")
    [old] = entries(tmp_path / "cache")
    if how == "cut off after the look":
        of = Known.of

        def cut(*given):
            os.truncate(old / "pixels", 70)
            return of(*given)

        monkeypatch.setattr("cnntrain.data.sources.decode.Known.of", cut)
    else:
        header = json.loads((old / "header.json").read_text())
        header |= {"dtype": "|i1"} if how == "of another type" else {"shape": [4, 3, 20]}
        (old / "header.json").write_text(json.dumps(header))
    assert np.array_equal(read(paths[1:], tmp_path / "cache")[0][:], shown(paths[1:]))


def test_a_cache_that_cannot_be_written_to(tmp_path):
    (tmp_path / "cache").write_text("a file in its place")
    with pytest.raises(DataError, match="CNNTRAIN_CACHE_DIR"):
        read(paint(tmp_path / "a", 2), tmp_path / "cache")
    with pytest.raises(DataError, match="free some space"):
        check_room(tmp_path, 2**70)


def test_a_size_beyond_all_pictures_is_refused_before_one_is_opened(tmp_path, monkeypatch):
    paths = paint(tmp_path / "a", 2)
    monkeypatch.setattr("cnntrain.data.sources.decode.open_picture", lambda path: pytest.fail("opened"))
    with pytest.raises(DataError, match="images of 10000x10000 are refused; the limit is 67,108,864 pixels"):
        read(paths, tmp_path / "cache", size=(10000, 10000))


def test_room_is_asked_for_before_anything_is_decoded(tmp_path, monkeypatch):
    paths = paint(tmp_path / "a", 3)
    needed, free = 3 * (3 + 1) * 5 * 4, []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    free[:] = [needed - 1]
    with pytest.raises(DataError, match=r"pixels/.*: the decoded images take .* free some space"):
        read(paths, tmp_path / "cache")
    free[:] = [needed]
    assert len(read(paths, tmp_path / "cache")[0][:]) == 3


def test_figures_of_images_on_disk_are_those_in_memory(tmp_path):
    paths = np.array([f"{number}.png" for number in range(30)], dtype=object)
    images = Images(RANDOM.random((30, 2, 3, 3), dtype=np.float32), np.arange(30) % 3, paths)
    stored = spilled(images, Folders(None, tmp_path))
    assert np.array_equal(stored.pixels[:], images.pixels)
    assert stored.fingerprint == images.fingerprint
    assert Preprocessing.of(stored, normalize=True) == Preprocessing.of(images, normalize=True)
    order = np.array([5, 1, 1])
    assert stored.take(order).fingerprint == images.take(order).fingerprint
    assert stored.take(order).paths.tolist() == ["5.png", "1.png", "1.png"]
    assert len(duplicates(stored, stored.take(order))) == 3
    assert len(duplicates(stored.take(slice(2, 5)), images.take(order))) == 0


# --- training


STREAMED = "data.memory_budget=1"


@pytest.mark.parametrize("override", ["data.normalize=true", "data.expand=one_pixel_shifts", "training.shuffle=never"])
def test_streamed_training_gives_the_same_bits(override, tiny, tmp_path):
    config = [override, "data.limit=300", "training.epochs=2"]
    train_run(load_config(tiny, config), tmp_path / "resident", Where())
    with pytest.raises(Interrupted):
        train_run(load_config(tiny, [*config, STREAMED]), tmp_path / "streamed", Where(), InterruptAt(13))
    resume_run(tmp_path / "streamed", (), Where())
    one, other = (checkpoint.load(tmp_path / run / "checkpoints" / "last.pt") for run in ("resident", "streamed"))
    assert_same(one.training["weights"], other.training["weights"])
    assert_same(one.data, other.data)
    said = "the images are streamed from disk, because they take more than `data.memory_budget`"
    assert [said in (tmp_path / run / "log.txt").read_text() for run in ("resident", "streamed")] == [False, True]
    # 1,797 images of 8x8, before they are split and limited.
    assert f"{said}: 0.1 MiB" in (tmp_path / "streamed" / "log.txt").read_text()


def test_a_run_goes_on_where_there_is_less_memory(tiny, tmp_path):
    with pytest.raises(Interrupted):
        train_run(load_config(tiny), tmp_path / "run", Where(), InterruptAt(13))
    assert resume_run(tmp_path / "run", [STREAMED], Where())["epochs"] == 3
    train_run(load_config(tiny), tmp_path / "whole", Where())
    one, other = (checkpoint.load(tmp_path / run) for run in ("run", "whole"))
    assert_same(one.weights, other.weights)


@pytest.mark.parametrize("text", ["4GiB", "1.5 GB", "500MB", "1", "1000"])
def test_sizes_as_people_write_them(text, tiny):
    found = load_config(tiny, [f"data.memory_budget={text}"]).data.memory_budget
    assert found == {"4GiB": 2**32, "1.5 GB": 1_500_000_000, "500MB": 500_000_000, "1": 1, "1000": 1000}[text]


@pytest.mark.parametrize("text", ["0", "-1", "4GiBs", "many", "1.5", "GiB"])
def test_sizes_that_are_none(text, tiny, cnntrain):
    outcome = cnntrain("check", tiny, f"data.memory_budget={text}")
    assert outcome.code == 2
    assert "override:1:20" in outcome.err


# --- the command


@pytest.fixture
def folder(tmp_path):
    """A config of a folder with so many images that processes decode them."""
    for name in ("one", "two"):
        paths = paint(tmp_path / "images" / name, 2, size=(100, 100))
        for number in range(400):
            (paths[0].parent / f"copy{number}.png").hardlink_to(paths[number % 2])
    config = tmp_path / "folder.yaml"
    source = f"{{image_folder: {{path: {tmp_path / 'images'}, size: 8}}}}"
    config.write_text(f"data: {{source: {source}}}\nnetwork: [softmax]\ntraining: {{epochs: 1}}\n")
    return config


def start(config):
    environment = {**os.environ, "CNNTRAIN_CACHE_DIR": str(config.parent / "cache")}
    command = [sys.executable, "-m", "cnntrain", "probe", str(config), "--json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_decode_once(folder):
    processes = [start(folder), start(folder)]
    (one, errors), (other, more) = (process.communicate(timeout=120) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], errors + more
    assert one == other
    assert len(entries(folder.parent / "cache")) == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_worker_that_dies_is_reported(folder):
    process = start(folder)
    deadline = time.monotonic() + 60
    workers = []
    while not workers and time.monotonic() < deadline:
        time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(int(workers[0]), signal.SIGKILL)
    try:
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "a process that decodes images has died" in err
    assert "Traceback" not in err
    assert not entries(folder.parent / "cache")


def test_the_same_bytes_in_another_shape_are_other_images(tmp_path):
    square = Images(np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8), np.zeros(10, np.int64))
    oblong = Images(square.pixels.reshape(10, 1, 4, 16), square.labels)
    shapes = [spilled(images, Folders(None, tmp_path)).pixels.shape for images in (square, oblong, square)]
    assert shapes == [(10, 1, 8, 8), (10, 1, 4, 16), (10, 1, 8, 8)]


def test_who_waits_for_another_process_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PATIENCE", 0.05)
    images, told = Images(np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8), np.zeros(1, np.int64)), Told()
    folders = Folders(None, tmp_path, told)
    spilled(images, folders)
    assert told.all == []
    [lock] = (tmp_path / "pixels").glob(".*.lock")
    held = FileLock(lock)
    held.acquire()
    told.say = lambda line: (told.all.append(line), held.release())
    assert np.array_equal(spilled(images, folders).pixels[:], images.pixels)
    assert told.all == ["waiting for another process, which prepares the same images"]
    # It was given back.
    with FileLock(lock, timeout=0):
        pass


def test_two_lists_of_one_folder_are_kept_both(tmp_path):
    names = [path.name for path in paint(tmp_path / "a", 4)]
    for which, chosen in (("odd", names[1::2]), ("even", names[::2])):
        (tmp_path / f"{which}.csv").write_text("path,label\n" + "".join(f"a/{name},x\n" for name in chosen))
    folders = Folders(tmp_path, tmp_path / "cache")
    for which in ("odd", "even"):
        csv_file(folders, f"{which}.csv")
    made = {path: path.stat().st_mtime_ns for path in entries(tmp_path / "cache")}
    assert len(made) == 2
    csv_file(folders, "odd.csv")
    csv_file(folders, "odd.csv", "even.csv")
    made |= {path: path.stat().st_mtime_ns for path in entries(tmp_path / "cache") if path not in made}
    assert len(made) == 3
    csv_file(folders, "odd.csv")
    assert {path: path.stat().st_mtime_ns for path in entries(tmp_path / "cache")} == made


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    """Each process that decodes for it imports it, and would wait for the lock that it holds."""
    paint(tmp_path / "photos" / "a", FEW * PIECE_FILES + 1)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from cnntrain.app.display import Silent\n"
        "from cnntrain.data.sources.decode import decoded\n"
        "paths = sorted(Path('photos').rglob('*.png'))\n"
        "decoded([Path('photos')], paths, None, None, Path('cache'), Silent())\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("cnntrain.errors.DataError: a process that decodes images has died")
    assert 'must begin with `if __name__ == "__main__":`' in last
