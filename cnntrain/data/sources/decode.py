"""Image files decoded into the cache, by several processes."""

import json
import math
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

from cnntrain.cores import as_many_as_cores
from cnntrain.data.cache import Content, Older, check_room, entry, has_room
from cnntrain.data.images import DIGEST_BYTES, OnDisk, Reporter, digests_of
from cnntrain.data.sources.pictures import Channels, Fit, check_size, fitted, open_picture
from cnntrain.data.sources.reuse import Known, marks_of
from cnntrain.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    fit: Fit = "stretch",
) -> OnDisk:
    """All images as (images, channels, height, width) of uint8, decoded when they are first asked for.

    Without `size` (height, width) they must have one size; without `channels` they are grey if all of
    them are. A file with another size or time is another image, and so is one that was put in its place; the others
    are not decoded again.
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
    # A setting that came later: entries of before are still known.
    others = [] if fit == "stretch" else [fit]
    family = json.dumps([[os.path.abspath(path) for path in origin], size, channels, *others])
    each = max(1, min(PIECE_FILES, PIECE_BYTES * len(paths) // max(1, sum(state.st_size for state in states))))

    def write(file: Path, older: Older | None) -> Content:
        if note:
            reporter.say(note)
        first, shape = _shape_of(paths, size, channels)
        # Whether all are grey is known at the end; until then there is room for colours, and for greys beside them.
        needed = len(paths) * (channels or 4) * math.prod(shape)
        if older and not has_room(file.parent, needed):
            older.remove()
            older = None
        check_room(file.parent, needed)
        marks = marks_of(listing)
        known = Known.of(older, marks, shape) if older else None
        whole = _Piece(file, 0, paths, size, channels, fit, first, shape, known)
        work = [whole.part(start, each) for start in range(0, len(paths), each)]
        return _decode(file, work, marks, reporter)

    return entry(cache, family, json.dumps([family, listing]), write, reporter)


@dataclass(frozen=True)
class _Piece:
    """Some of the images: where they go in the file, and what all of them must be."""

    file: Path
    start: int
    paths: Sequence[Path]
    size: Size | None
    channels: Channels | None
    fit: Fit
    first: Path
    shape: Size
    known: Known | None

    def part(self, start: int, count: int) -> "_Piece":
        """So many of a whole, from `start` on."""
        known = self.known and self.known.part(start, count)
        return replace(self, start=start, paths=self.paths[start : start + count], known=known)


@dataclass(frozen=True)
class _Done:
    """The digests of a piece's images as they are stored, and as greys if all of them are.

    `unreadable` are why others can't be read, by their place in the piece; black ones stand for them.
    """

    digests: "NDArray[np.uint8]"
    as_greys: "NDArray[np.uint8] | None"
    unreadable: dict[int, str]


def _decode(file: Path, work: Sequence[_Piece], marks: "NDArray[np.uint8]", reporter: Reporter) -> Content:
    import numpy as np

    count, channels, shape = len(marks), work[0].channels, work[0].shape
    file.touch()
    done = _by_processes(work, reporter, count) if len(work) > FEW else [_decode_piece(piece) for piece in work]
    unreadable = {
        piece.start + place: reason
        for piece, found in zip(work, done, strict=True)
        for place, reason in found.unreadable.items()
    }
    failure = _unreadable([*unreadable.values()], count) if unreadable else None
    if failure and len(unreadable) == count:
        raise failure
    marks = marks.copy()
    marks[[*unreadable]] = 0
    greys = [piece.as_greys for piece in done if piece.as_greys is not None]
    if channels is None and len(greys) == len(done):
        _narrow(file, count, *shape)
        return Content((count, 1, *shape), "|u1", np.concatenate(greys), marks, failure)
    digests = np.concatenate([piece.digests for piece in done])
    return Content((count, channels or 3, *shape), "|u1", digests, marks, failure)


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
    new = sum(len(piece.paths) - (piece.known.count if piece.known else 0) for piece in work)
    told = f"{count:,}" if new == count else f"{new:,} of {count:,}"
    # Where no bar is drawn, as in a batch job, it would be silent for long.
    reporter.say(f"decoding {told} image files, which is done once" if new else f"copying {count:,} decoded images")
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
    digests, as_greys, unreadable = [nothing], [nothing], dict[int, str]()
    with piece.file.open("rb+") as out:
        out.seek(piece.start * planes * piece.shape[0] * piece.shape[1])
        for place, path in enumerate(piece.paths):
            try:
                array = _array_of(piece, place, path)
            except DataError as error:
                unreadable[place] = str(error)
                array = np.zeros(piece.shape, np.uint8)
            if array.shape[:2] != piece.shape:
                one, other = (f"{height}x{width}" for height, width in (piece.shape, array.shape[:2]))
                said = f"images differ in size (height x width): {piece.first} is {one}, {path} is {other}"
                raise DataError(f"{said}; set `size:` to resize them")
            if array.ndim == 2:
                as_greys.append(digests_of(array[None]))
            image = np.broadcast_to(np.atleast_3d(array), (*piece.shape, planes)).transpose(2, 0, 1)
            digests.append(digests_of(image[None]))
            out.write(image.tobytes())
    greys = np.concatenate(as_greys)
    return _Done(np.concatenate(digests), greys if len(greys) == len(piece.paths) else None, unreadable)


def _array_of(piece: _Piece, place: int, path: Path) -> "NDArray[np.uint8]":
    """One image, (height, width) or (height, width, channels)."""
    import numpy as np

    if piece.known is not None and (known := piece.known.get(place, piece.channels)) is not None:
        return known
    return np.asarray(
        fitted(open_picture(path, size=piece.size, channels=piece.channels), piece.size, piece.channels, piece.fit)
    )


def _narrow(file: Path, count: int, height: int, width: int) -> None:
    """Keep one of three equal channels."""
    narrow, plane = file.with_suffix(".narrow"), height * width
    with file.open("rb") as wide, narrow.open("wb") as out:
        for _ in range(count):
            out.write(wide.read(3 * plane)[:plane])
    narrow.replace(file)
