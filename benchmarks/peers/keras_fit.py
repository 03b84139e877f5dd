"""Keras 3 and its `fit`, on the backend that KERAS_BACKEND names."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.workloads import LEARNING_RATE, WORKLOADS, arrays


def _network(workload: str) -> keras.Sequential:
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


def train(workload: str, batch_size: int, tick: Callable[[], None]) -> None:
    """Train for ever."""
    # torch's layers take channels first: with Keras's default each step would move them there and back.
    keras.config.set_image_data_format("channels_first" if keras.config.backend() == "torch" else "channels_last")
    keras.utils.set_random_seed(0)
    images, labels = arrays()
    if _is_channels_last():
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    model = _network(workload)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(LEARNING_RATE), loss)
    model.fit(images, labels, batch_size=batch_size, epochs=1000, verbose=0, callbacks=[_Ticks(tick)])
