"""A camera's picture as training pictures were read: size, crop and colour."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ondevice.input_settings import ImageSettings

Fit = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def as_it_is(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """For what is no picture."""
    return raw


def picture_fit(settings: ImageSettings, shape: tuple[int, ...], layout: str) -> Fit:
    """Returns what brings a picture [height, width, 3] to the model's size and colours.

    Args:
        settings: [image] of the run; its crop and colour.
        shape: Of the model's input, without the batch.
        layout: "channels_first" or "channels_last": where in `shape` height and width are.
    """
    from PIL import Image

    from ondevice.datasets.images import MODES, as_array, fitted

    first = layout == "channels_first"
    height, width = shape[1:3] if first else shape[0:2]

    def fit(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        whole = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        image = Image.fromarray(whole).convert(MODES[settings.colour])
        return as_array(fitted(image, settings.crop, (height, width)))

    return fit
