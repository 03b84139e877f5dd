"""Keras 3 and its `fit`, on the backend that KERAS_BACKEND names."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np

from benchmarks.workloads import WORKLOADS, arrays


def _network(workload: str) -> keras.Model:
    if workload == "W5":
        return _residual()
    layers: list[Any] = [keras.Input((28, 28, 1) if _is_channels_last() else (1, 28, 28))]
    is_flat = False
    for layer in WORKLOADS[workload].layers:
        [(name, given)] = layer.items()
        if name == "conv_pool":
            layers += [keras.layers.Conv2D(given["filters"], 5), keras.layers.MaxPooling2D(2)]
            layers += [keras.layers.Activation(given["activation"])]
            continue
        layers += [] if is_flat else [keras.layers.Flatten()]
        is_flat = True
        layers += [keras.layers.Dropout(given["dropout"])] if given["dropout"] else []
        layers += [keras.layers.Dense(given.get("units", 10), activation=given.get("activation"))]
    return keras.Sequential(layers)


def _residual() -> keras.Model:
    image = keras.Input((32, 32, 3) if _is_channels_last() else (3, 32, 32))
    values = keras.layers.RandomTranslation(4 / 32, 4 / 32, fill_mode="constant", interpolation="nearest")(image)
    values = keras.layers.RandomFlip("horizontal")(values)
    # Half of the images; a single number would be the upper end of a range that it is drawn from.
    values = keras.layers.RandomErasing((0.5, 0.5), (1 / 16, 1 / 16), fill_value=0, value_range=(0, 1))(values)
    values = _conv(values, 64, 1, 3)
    values = keras.layers.ReLU()(keras.layers.BatchNormalization(axis=_axis())(values))
    for filters, stride in ((64, 1), (128, 2), (256, 2), (256, 1)):
        values = _block(values, filters, stride)
    values = keras.layers.GlobalAveragePooling2D()(values)
    return keras.Model(image, keras.layers.Dense(10)(values))


def _block(values: Any, filters: int, stride: int) -> Any:
    hidden = keras.layers.BatchNormalization(axis=_axis())(_conv(values, filters, stride, 3))
    hidden = keras.layers.BatchNormalization(axis=_axis())(_conv(keras.layers.ReLU()(hidden), filters, 1, 3))
    if (values.shape[_axis()], stride) != (filters, 1):
        values = _conv(values, filters, stride, 1)
    return keras.layers.ReLU()(keras.layers.Add()([hidden, values]))


def _conv(values: Any, filters: int, stride: int, kernel_size: int) -> Any:
    return keras.layers.Conv2D(filters, kernel_size, stride, "same", use_bias=False)(values)


def _axis() -> int:
    return -1 if _is_channels_last() else 1


def _is_channels_last() -> bool:
    return keras.config.image_data_format() == "channels_last"


class _Ticks(keras.callbacks.Callback):
    def __init__(self, tick: Callable[[], None]) -> None:
        super().__init__()
        self.tick = tick

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # Reading the loss waits for the step, where the backend runs ahead.
        float((logs or {})["loss"])
        self.tick()


def train(workload: str, batch_size: int, tick: Callable[[], None], device: object = "cpu") -> None:
    """Train for ever."""
    # Left to itself, Keras takes a GPU where there is one.
    with keras.device("cpu") if str(device) == "cpu" else nullcontext():
        _train(workload, batch_size, tick)


def _train(workload: str, batch_size: int, tick: Callable[[], None]) -> None:
    # torch's layers take channels first: with Keras's default each step would move them there and back.
    keras.config.set_image_data_format("channels_first" if keras.config.backend() == "torch" else "channels_last")
    keras.utils.set_random_seed(0)
    images, labels = arrays(workload)
    if _is_channels_last():
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    model, smoothing = _network(workload), WORKLOADS[workload].label_smoothing
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if smoothing:
        loss, labels = (
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing),
            np.eye(10)[labels],
        )
    model.compile(keras.optimizers.SGD(**WORKLOADS[workload].sgd), loss)
    model.fit(images, labels, batch_size=batch_size, epochs=1000, verbose=0, callbacks=[_Ticks(tick)])
