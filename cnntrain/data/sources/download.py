"""Files that are looked for where the user keeps data, and fetched with their checksum when they are absent."""

from pathlib import Path
from typing import IO

from cnntrain import atomic
from cnntrain.data.images import Folders
from cnntrain.errors import DataError

# A server that is silent for so long is given up.
SECONDS = 30


def find(folders: Folders, name: str, files: list[str], is_mistakable: bool = False) -> Path | None:
    """The first folder that holds all of `files`, whole or gzipped: the user's own, then the cache.

    Files whose names other data sets use too are taken from a folder of the data set's name only.
    """
    for place in _places(folders, name, is_mistakable):
        if all((place / file).is_file() or (place / f"{file}.gz").is_file() for file in files):
            return place
    return None


def _places(folders: Folders, name: str, is_mistakable: bool = False) -> list[Path]:
    places = [folders.cache / name]
    if folders.named is None:
        return places
    around = [folders.named, *_subfolders(folders.named)]
    own = [folder for folder in around if _letters(folder.name) == _letters(name)]
    # torchvision keeps its files in FashionMNIST/raw.
    return [*own, *(folder / "raw" for folder in own), *([] if is_mistakable else [folders.named]), *places]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def fetch(folders: Folders, name: str, url: str, md5: str) -> Path:
    """One published file in the cache: from where the user has put it, else downloaded; none with another checksum.

    Raises `DataError` that says what to do without a network.
    """
    import pooch

    target, file = folders.cache / name, url.rpartition("/")[2]
    there = [place / file for place in _places(folders, name) if (place / file).is_file()]
    own = next((path for path in there if pooch.file_hash(str(path), "md5") == md5), None)
    if own is not None:
        return _cached(own, target / file)
    downloader = pooch.HTTPDownloader(progressbar=False, timeout=SECONDS)
    pooch.get_logger().setLevel("WARNING")
    folders.reporter.say(f"downloading {url}")
    try:
        return Path(pooch.retrieve(url, f"md5:{md5}", fname=file, path=target, downloader=downloader))
    except ValueError as error:
        raise DataError(f"{url}: the download does not have the checksum of the published file; try again") from error
    except OSError as error:  # as are those of HTTP
        where = folders.named / name if folders.named else target
        other = f"{there[0]} does not have the checksum of the published file; " if there else ""
        raise DataError(
            f"`{name}` was not found on this machine, and {url} can't be downloaded ({type(error).__name__}); "
            f"{other}put {file} into {where}, or name the folder that has it with --data-dir"
        ) from error


def _cached(path: Path, place: Path) -> Path:
    """A copy of the user's file in the cache, beside which it can be unpacked."""
    if path != place:
        place.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source:
            put(source, place)
    return place


def put(source: IO[bytes], place: Path) -> None:
    """Copy a stream to `place`, whole or not at all, also where several processes do it at once."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as folder:
        part = Path(folder) / place.name
        with part.open("wb") as target:
            shutil.copyfileobj(source, target)
        atomic.sync(part)
        part.replace(place)
    atomic.sync_folder(place.parent)
