"""A checkpoint as a file that other programs read: its weights, or all that leads from an image to an answer."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from cnntrain import atomic
from cnntrain.app.model import Model, load_model
from cnntrain.app.where import Where
from cnntrain.errors import CnntrainError, UsageError, first_line
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint
from cnntrain.unheard import REMARKS, filtering

Format = Literal["safetensors", "npz", "onnx"]

# By one thread, which puts back how much is logged.
_exporting = Lock()


def export(source: str | Path, kind: Format, output: str | Path | None = None, where: Where | None = None) -> Path:
    """Write a checkpoint's weights as `.safetensors` or `.npz`, or its network as `.onnx`; gives the file's path.

    The config, the classes and the preprocessing go with them as JSON: a text each in the metadata of safetensors and
    ONNX, one text in the array `metadata` of npz. An ONNX file takes `images` (batch, channels, height, width) in 0..1,
    and gives `probabilities` (batch, classes). Raises `UsageError` where the package for it is missing.
    """
    if kind not in get_args(Format):
        raise UsageError(f"`{kind}`: a format is one of {', '.join(get_args(Format))}")
    source, output = Path(source), output and Path(output)
    if output and output.suffix != f".{kind}":
        raise UsageError(f"{output}: the name of a file of this format ends in .{kind}")
    saved = checkpoint.load(source)
    path = output or (source / f"best.{kind}" if source.is_dir() else source.with_suffix(f".{kind}"))
    if kind == "onnx":
        content = _onnx(load_model(source, where or Where(device="cpu")), _texts(saved))
    else:
        content = _safetensors(saved) if kind == "safetensors" else _npz(saved)
    atomic.write(path, content)
    return path


def _metadata(saved: Checkpoint) -> dict[str, Any]:
    return {"config": saved.config, "classes": saved.classes, "preprocessing": saved.preprocessing}


def _texts(saved: Checkpoint) -> dict[str, str]:
    """The same where values can only be text."""
    return {name: json.dumps(value) for name, value in _metadata(saved).items()}


def _safetensors(saved: Checkpoint) -> bytes:
    # Two names may share one tensor, which such a file can't say.
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in saved.weights.items()}
    # Readers of such files take "pt" for torch's order of dimensions.
    return safetensors.torch.save(weights, {"format": "pt", **_texts(saved)})


def _npz(saved: Checkpoint) -> bytes:
    file = io.BytesIO()
    arrays = {
        name: tensor.to(torch.float32).numpy() if tensor.is_floating_point() else tensor.numpy()
        for name, tensor in saved.weights.items()
    }
    np.savez(file, metadata=np.array(json.dumps(_metadata(saved))), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


class _Whole(nn.Module):
    """Everything from an image to an answer, as `predict` does it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self.preprocessing = model.preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) in 0..1 -> probabilities (batch, classes)."""
        output: Tensor = self.network(self.preprocessing.normalize(images)).softmax(1)
        return output


def _onnx(model: Model, metadata: dict[str, str]) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError("`--format onnx` needs another package: pip install onnxscript") from error
    # Of one image it could be thought that there is never another number.
    images, whole = torch.zeros(2, *model.preprocessing.shape, dtype=torch.float32), _Whole(model).eval()
    # Without gradients, for where there are some few images are convolved by operations for that number.
    with torch.no_grad(), _silent():
        # Constants are made once, and must not be made of what the tracer puts in the place of tensors.
        whole(images)
        try:
            program = torch.onnx.export(
                whole,
                (images,),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        except ImportError as error:
            raise UsageError(
                f"`--format onnx` needs a newer onnxscript: pip install -U onnxscript ({error})"
            ) from error
        except torch.onnx.OnnxExporterError as error:
            why = first_line(error.__cause__ or error)
            raise CnntrainError(f"this network can't be written as ONNX: {why}") from error
    assert program is not None
    content = program.model_proto
    if not content.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise CnntrainError(
            "this network can't be written as ONNX: a layer does something else for each number of images"
        )
    onnx.helper.set_model_props(content, metadata)
    return bytes(content.SerializeToString())


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter from telling of packages that nobody needs, and of what torch calls in torch."""
    logger = logging.getLogger("torch.onnx")
    with _exporting, filtering(*REMARKS):
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
