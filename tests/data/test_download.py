"""Downloads against a server on this machine: whole, wrong, cut off, absent."""

import gzip
import hashlib
import http.server
import io
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnntrain.app.display import Silent
from cnntrain.data.images import Folders
from cnntrain.data.sources import download, idx
from cnntrain.errors import DataError

CONTENT = gzip.compress(b"content of a file" * 1000, mtime=0)


class Handler(http.server.BaseHTTPRequestHandler):
    mode = "whole"
    hits = 0

    def do_GET(self):
        Handler.hits += 1
        if Handler.mode == "circle":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if Handler.mode == "cut" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Handler.mode, Handler.hits = "whole", 0
        yield f"http://127.0.0.1:{server.server_port}/file.gz"
        server.shutdown()
        thread.join()


MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


def test_whole_and_kept(server, tmp_path):
    folders = Folders(None, tmp_path)
    path = download.fetch(folders, "thing", server, MD5)
    assert path.read_bytes() == CONTENT
    assert download.fetch(folders, "thing", server, MD5) == path
    assert Handler.hits == 1


def test_who_asks_is_told(server, tmp_path, capsys):
    class Told(Silent):
        def say(self, line):
            said.append(line)

    said = []
    download.fetch(Folders(None, tmp_path, Told()), "thing", server, MD5)
    assert (said, capsys.readouterr().err) == ([f"downloading {server}"], "")
    download.fetch(Folders(None, tmp_path / "other"), "thing", server, MD5)
    assert capsys.readouterr().err == f"downloading {server}\n"


@pytest.mark.parametrize(
    ("mode", "md5", "expected"),
    [
        ("whole", "0" * 32, "does not have the checksum"),
        ("cut", MD5, "can't be downloaded|checksum"),
        ("circle", MD5, "can't be downloaded"),
    ],
)
def test_a_part_is_never_taken_for_the_whole(server, tmp_path, mode, md5, expected):
    Handler.mode = mode
    with pytest.raises(DataError, match=expected):
        download.fetch(Folders(None, tmp_path), "thing", server, md5)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    Handler.mode = "whole"
    assert download.fetch(Folders(None, tmp_path), "thing", server, MD5).read_bytes() == CONTENT


@pytest.mark.parametrize(("named", "place"), [(None, "cache"), (Path("named"), "named")])
def test_no_network_says_what_to_do(tmp_path, named, place):
    folders = Folders(named and tmp_path / named, tmp_path / "cache")
    with pytest.raises(DataError, match=rf"put file\.gz into {tmp_path / place / 'thing'}, or .*--data-dir"):
        download.fetch(folders, "thing", "http://127.0.0.1:9/file.gz", MD5)


@pytest.mark.parametrize("place", ["named/thing", "named", "named/Thing/raw", "cache/thing"])
def test_the_advice_can_be_followed(tmp_path, place):
    folders = Folders(tmp_path / "named", tmp_path / "cache")
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "file.gz").write_bytes(CONTENT)
    found = download.fetch(folders, "thing", "http://127.0.0.1:9/file.gz", MD5)
    assert found == tmp_path / "cache" / "thing" / "file.gz" and found.read_bytes() == CONTENT
    assert (tmp_path / place / "file.gz").read_bytes() == CONTENT


def test_another_file_of_that_name_is_not_taken(tmp_path, server):
    folders = Folders(tmp_path / "named", tmp_path / "cache")
    other = tmp_path / "named" / "thing" / "file.gz"
    other.parent.mkdir(parents=True)
    other.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=f"{other} does not have the checksum of the published file; put file.gz into"):
        download.fetch(folders, "thing", "http://127.0.0.1:9/file.gz", MD5)
    assert download.fetch(folders, "thing", server, MD5).read_bytes() == CONTENT
    assert other.read_bytes() == CONTENT[:-1]


def test_the_users_own_goes_before_what_was_downloaded(tmp_path):
    for place in ("named/thing", "cache/thing"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "file").touch()
    folders = Folders(tmp_path / "named", tmp_path / "cache")
    assert download.find(folders, "thing", ["file"]) == tmp_path / "named" / "thing"
    (tmp_path / "named" / "thing" / "file").unlink()
    assert download.find(folders, "thing", ["file"]) == tmp_path / "cache" / "thing"


def test_a_source_downloads_what_is_absent(server, tmp_path, monkeypatch):
    asked = []

    def fetch(folders, name, url, md5):
        asked.append((url, md5))
        array = np.zeros((3, 28, 28), np.uint8) if "images" in url else np.array([0, 1, 2], np.uint8)
        shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
        path = folders.cache / name / url.rpartition("/")[2]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress((0x800 + array.ndim).to_bytes(4, "big") + shape + array.tobytes()))
        return path

    monkeypatch.setattr(idx, "fetch", fetch)
    dataset = idx.fashion_mnist(Folders(None, tmp_path))
    assert dataset.classes[9] == "Ankle boot"
    assert len(asked) == 4
    idx.fashion_mnist(Folders(None, tmp_path))
    assert len(asked) == 4


def test_a_stream_is_put_whole_or_not_at_all(tmp_path):
    download.put(io.BytesIO(b"whole"), tmp_path / "file")

    class Cut(io.BytesIO):
        def read(self, size=-1):
            raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        download.put(Cut(), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_what_is_put_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def noted(handle):
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        synced.append((is_folder or os.fstat(handle).st_size, (tmp_path / "file").exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    download.put(io.BytesIO(b"whole"), tmp_path / "file")
    assert synced == [(5, False), (True, True)]


def test_several_put_one_file_at_once(tmp_path):
    both_are_at_work = threading.Barrier(2)

    class Slow(io.BytesIO):
        def read(self, size=-1):
            both_are_at_work.wait(10)
            return super().read(size)

    def put():
        download.put(Slow(b"whole"), tmp_path / "file")

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(put) for _ in range(2)]:
            done.result()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"
