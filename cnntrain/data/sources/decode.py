"""Image files decoded into the cache, by several processes."""

import json
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

from cnntrain.cores import as_many_as_cores
from cnntrain.data.cache import check_room, entry
from cnntrain.data.images import DIGEST_BYTES, OnDisk, Reporter, digests_of
from cnntrain.data.sources.pictures import Channels, check_size, fitted, open_picture
from cnntrain.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Written = tuple[tuple[int, ...], str, NDArray[np.uint8]]

Size = tuple[int, int]

# Files of so many bytes, or so many files, are a piece of work; fewer than FEW pieces don't pay for processes.
PIECE_BYTES, PIECE_FILES, FEW = 2**22, 256, 4
# So many files that can't be read are named.
MOST_NAMED = 20


def decoded(
    origin: Sequence[Path],
    paths: Sequence[Path],
    size: Size | None,
    channels: Channels | None,
    cache: Path,
    reporter: Reporter,
    note: str = "",
) -> OnDisk:
    """All images as (images, channels, height, width) of uint8, decoded when they are first asked for.

    Without `size` (height, width) they must have one size; without `channels` they are grey if all of
    them are. A file with another size or time is another image, and so is one that was put in its place.
    Of the folder or the lists `origin`, which name the images, the newest state is kept. A `note` on them is told once,
    when they are decoded.
    Raises `DataError` naming the files that can't be read.
    """
    absolute = [os.path.abspath(path) for path in paths]
    states = [os.stat(path) for path in absolute]
    # An archive sets times of its own, and a file that is moved keeps its time: the system notes both.
    listing = [
        (path, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        for path, state in zip(absolute, states, strict=True)
    ]
    family = json.dumps([[os.path.abspath(path) for path in origin], size, channels])
    each = max(1, min(PIECE_FILES, PIECE_BYTES * len(paths) // max(1, sum(state.st_size for state in states))))

    def write(file: Path) -> "Written":
        if note:
            reporter.say(note)
        return _decode(file, paths, each, size, channels, reporter)

    return entry(cache, family, json.dumps([family, listing]), write)


@dataclass(frozen=True)
class _Piece:
    """Some of the images: where they go in the file, and what all of them must be."""

    file: Path
    start: int
    paths: Sequence[Path]
    size: Size | None
    channels: Channels | None
    first: Path
    shape: Size


@dataclass(frozen=True)
class _Done:
    """The digests of a piece's images as they are stored, and as greys if all of them are; why others can't be read."""

    digests: "NDArray[np.uint8]"
    as_greys: "NDArray[np.uint8] | None"
    unreadable: list[str]


def _decode(
    file: Path, paths: Sequence[Path], each: int, size: Size | None, channels: Channels | None, reporter: Reporter
) -> "Written":
    import numpy as np

    count = len(paths)
    first, (height, width) = _shape_of(paths, size, channels)
    # Whether all of them are grey is known at the end; until then there is room for colours, and for greys beside them.
    stored = channels or 3
    check_room(file.parent, count * (stored + (channels is None)) * height * width)
    file.touch()
    work = [
        _Piece(file, start, paths[start : start + each], size, channels, first, (height, width))
        for start in range(0, count, each)
    ]
    done = _by_processes(work, reporter, count) if len(work) > FEW else [_decode_piece(piece) for piece in work]
    unreadable = [reason for piece in done for reason in piece.unreadable]
    if unreadable:
        raise _unreadable(unreadable, count)
    greys = [piece.as_greys for piece in done if piece.as_greys is not None]
    if channels is None and len(greys) == len(done):
        _narrow(file, count, height, width)
        return (count, 1, height, width), "|u1", np.concatenate(greys)
    return (count, stored, height, width), "|u1", np.concatenate([piece.digests for piece in done])


def _shape_of(paths: Sequence[Path], size: Size | None, channels: Channels | None) -> tuple[Path, Size]:
    """An image to which all others are held, and its (height, width); raises `DataError` where none can be read."""
    if size is not None:
        check_size(size)
        return paths[0], size
    unreadable = []
    for path in paths:
        try:
            width, height = fitted(open_picture(path), size, channels).size
        except DataError as error:
            unreadable.append(str(error))
        else:
            return path, (height, width)
    raise _unreadable(unreadable, len(paths))


def _unreadable(reasons: Sequence[str], count: int) -> DataError:
    """An error that names what can't be read, all at once: decoding may have taken hours."""
    if len(reasons) == 1:
        return DataError(reasons[0])
    lines = [*reasons[:MOST_NAMED], *(["..."] if len(reasons) > MOST_NAMED else [])]
    return DataError("\n".join([f"{len(reasons):,} of {count:,} images can't be used; fix or remove them:", *lines]))


def _by_processes(work: Sequence[_Piece], reporter: Reporter, count: int) -> list[_Done]:
    # Where no bar is drawn, as in a batch job, it would be silent for long.
    reporter.say(f"decoding {count:,} image files, which is done once")
    others = active_children()
    pool = ProcessPoolExecutor(min(as_many_as_cores(), len(work)), get_context("spawn"), _begin_worker)
    done = []
    try:
        waiting: list[Future[_Done]] = [pool.submit(_decode_piece, piece) for piece in work]
        for piece, future in zip(work, waiting, strict=True):
            done.append(future.result())
            reporter.progress(piece.start + len(piece.paths), count, "decoding images")
    except BaseException as error:
        # The pool starts workers one by one; for one that comes while it gives up it would wait forever.
        for worker in set(active_children()) - set(others):
            worker.kill()
        # The pipe breaks where a worker dies before it knows what it is to do.
        if not isinstance(error, BrokenProcessPool | BrokenPipeError):
            raise
        raise DataError(
            "a process that decodes images has died, most likely because memory ran out; free some and start again "
            '(a Python script that is not the command line must begin with `if __name__ == "__main__":`)'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    return done


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _decode_piece(piece: _Piece) -> _Done:
    import numpy as np

    planes = piece.channels or 3
    nothing = np.empty((0, DIGEST_BYTES), np.uint8)
    digests, as_greys, unreadable = [nothing], [nothing], []
    with piece.file.open("rb+") as out:
        out.seek(piece.start * planes * piece.shape[0] * piece.shape[1])
        for path in piece.paths:
            try:
                array = np.asarray(fitted(open_picture(path, size=piece.size), piece.size, piece.channels))
            except DataError as error:
                unreadable.append(str(error))
                continue
            if array.shape[:2] != piece.shape:
                one, other = (f"{width}x{height}" for height, width in (piece.shape, array.shape[:2]))
                said = f"images differ in size: {piece.first} is {one}, {path} is {other}"
                raise DataError(f"{said}; set `size:` to resize them")
            if array.ndim == 2:
                as_greys.append(digests_of(array[None]))
            image = np.broadcast_to(np.atleast_3d(array), (*piece.shape, planes)).transpose(2, 0, 1)
            digests.append(digests_of(image[None]))
            out.write(image.tobytes())
    greys = np.concatenate(as_greys)
    return _Done(np.concatenate(digests), greys if len(greys) == len(piece.paths) else None, unreadable)


def _narrow(file: Path, count: int, height: int, width: int) -> None:
    """Keep one of three equal channels."""
    narrow, plane = file.with_suffix(".narrow"), height * width
    with file.open("rb") as wide, narrow.open("wb") as out:
        for _ in range(count):
            out.write(wide.read(3 * plane)[:plane])
    narrow.replace(file)
