"""Downloads from servers that fail on purpose, on this machine: never a part for the whole, always an end."""

import gc
import gzip
import hashlib
import http.server
import threading
import time

import pytest

from cnntrain.data.images import Folders
from cnntrain.data.sources import download
from cnntrain.errors import DataError

# A download that fails leaves its connection to the garbage collector, which here comes before other tests.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONTENT = gzip.compress(bytes(range(256)) * 500)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    mode = "whole"
    ended = threading.Event()

    def do_GET(self):
        if self.mode == "circle":
            self.answer(302, Location=self.path)
        elif self.mode == "missing":
            self.answer(404)
        elif self.mode == "elsewhere":
            self.answer(302, Location="file:///etc/passwd")
        else:
            claimed = len(CONTENT) + (1000 if self.mode == "claims more" else 0)
            self.answer(200, **{"Content-Length": str(claimed)})
            self.send_body()

    def answer(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self):
        if self.mode == "slow":
            self.wfile.write(CONTENT[:10])
            self.wfile.flush()
            self.ended.wait(60)
            return
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.mode == "dies half way" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Handler.ended.clear()
        yield f"http://127.0.0.1:{server.server_port}/file.gz"
        Handler.ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _collected():
    yield
    gc.collect()


FAULTS = ["dies half way", "claims more", "circle", "missing", "elsewhere"]


@pytest.mark.parametrize("mode", FAULTS)
def test_nothing_is_kept_and_the_next_time_begins_again(server, tmp_path, mode):
    Handler.mode = mode
    with pytest.raises(DataError, match=r"can't be downloaded|does not have the checksum") as caught:
        download.fetch(Folders(None, tmp_path), "thing", server, MD5)
    assert caught.value.exit_code == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    Handler.mode = "whole"
    assert download.fetch(Folders(None, tmp_path), "thing", server, MD5).read_bytes() == CONTENT


def test_a_server_that_sends_next_to_nothing_is_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "SECONDS", 1)
    Handler.mode = "slow"
    started = time.monotonic()
    with pytest.raises(DataError, match="can't be downloaded"):
        download.fetch(Folders(None, tmp_path), "thing", server, MD5)
    assert time.monotonic() - started < 20
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_part_that_lies_there_is_not_taken_for_the_whole(server, tmp_path):
    Handler.mode = "whole"
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "file.gz").write_bytes(CONTENT[:100])
    assert download.fetch(Folders(None, tmp_path), "thing", server, MD5).read_bytes() == CONTENT
