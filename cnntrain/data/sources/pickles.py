"""The book's own `mnist.pkl.gz`, read by an unpickler that makes arrays of numbers and calls nothing of NumPy's."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.data.sources.unpacked import check_bytes, most_bytes
from cnntrain.errors import DataError, HostileDataError
from cnntrain.registry import sources

if TYPE_CHECKING:
    import numpy as np

# Images and labels; NumPy's objects, and structures of fields, are addresses and code.
NUMBERS = {"f4", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))}
# What stands for `numpy.ndarray`, which is only ever named.
NDARRAY = object()


class _Numbers:
    """What stands for `numpy.dtype`: a kind of number. NumPy's own would take a state that is not checked."""

    def __init__(self, code: str, *options: object) -> None:
        if code not in NUMBERS:
            raise pickle.UnpicklingError(f"it holds values of type {code!a}, which are not plain numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """What stands for an array, which begins empty and gets its content from its state."""

    content: "np.ndarray[Any, Any]"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        import numpy as np

        _, shape, numbers, is_fortran, raw = state
        if not isinstance(numbers, _Numbers):
            raise pickle.UnpicklingError("its arrays are of no kind")
        data = raw.encode("latin1") if isinstance(raw, str) else bytes(memoryview(raw))
        flat = np.frombuffer(data, np.dtype(numbers.order + numbers.code))
        self.content = flat.reshape(shape, order="F" if is_fortran else "C").astype(numbers.code)


def _reconstruct(kind: object, shape: tuple[int, ...], code: bytes) -> _Array:
    if kind is not NDARRAY:
        raise pickle.UnpicklingError("it does not begin as an array")
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


# All that a pickled array consists of, and what we put in its place; numpy moved its modules in version 2.
FOUND: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): _Numbers,
    ("_codecs", "encode"): _encode,
}


class _ArraysOnly(pickle.Unpickler):
    """Finds our own in the place of the parts of an array, and refuses all other names before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in FOUND:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return FOUND[module, name]


# Its expand_mnist.py writes lists.
EXPANDED = "; for the book's expanded set, take its mnist.pkl.gz and `data.expand: one_pixel_shifts`"


@sources.register("nielsen_pickle")
def nielsen_pickle(folders: Folders, /, path: str = "mnist.pkl.gz") -> Dataset:
    """The file that comes with the book: 50,000 training, 10,000 validation and 10,000 test images of MNIST.

    It has its own split, so leave `data.validation` out. Its pixels were divided by 256; those of `mnist` are by 255.
    """
    file = folders.file(path)
    content = _load(file)
    if not isinstance(content, tuple | list) or len(content) != 3:
        raise DataError(f"{file}: it does not hold the three parts of the book's mnist.pkl.gz")
    train, validation, test = (_images(part, file) for part in content)
    return Dataset(tuple("0123456789"), train, validation, test)


def _load(file: Path) -> Any:
    import gzip
    import io
    import zlib

    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as packed:
            data = packed.read(most_bytes(file) + 1)
        check_bytes(file, len(data))
        return _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise HostileDataError(
            f"{file}: refused, because it is not a pickle of arrays only: {error}{EXPANDED}"
        ) from error
    except DataError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: a truncated or damaged gzip file ({error})") from error
    except Exception as error:
        # A damaged pickle can fail in any way that Python knows; by now it could name arrays only.
        raise DataError(f"{file}: a damaged pickle ({type(error).__name__}: {error})") from error


def _images(part: Any, file: Path) -> Images:
    import numpy as np

    try:
        pixels, labels = (value.content for value in part)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file}: a part of it is not a pair of images and labels") from error
    is_right = pixels.dtype == np.float32 and pixels.ndim == 2 and pixels.shape[1] == 784
    if not is_right or labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        raise DataError(f"{file}: images are {pixels.dtype}{pixels.shape}, not float32 (n, 784) with a label each")
    if len(labels) == 0 or not 0 <= labels.min() <= labels.max() <= 9 or not (pixels >= 0).all() & (pixels <= 1).all():
        raise DataError(f"{file}: labels must be 0 to 9 and pixels within 0..1")
    return Images(np.ascontiguousarray(pixels).reshape(-1, 1, 28, 28), labels.astype(np.int64))
