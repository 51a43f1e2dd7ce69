"""Folders of pictures: DIR/LABEL/*.png and the like; augmented copies of training pictures."""

import math
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ondevice.config import Config
from ondevice.data import DataError
from ondevice.datasets.folder import labelled_files
from ondevice.input_settings import ImageSettings
from ondevice.recordings import Samples

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")
MODES = {"rgb": "RGB", "grey": "L"}
CHANNELS = {"rgb": ("red", "green", "blue"), "grey": ("grey",)}


def read_image_folder(path: Path, config: Config) -> Samples:
    """Reads pictures as float32 [n, height, width, colours], 0 to 1.

    Raises:
        DataError: A picture cannot be read.
    """
    settings = config.image
    files = labelled_files(path, SUFFIXES)
    size = image_size(settings)
    pictures = []
    for item in files:
        picture = load_picture(item.path, settings, size)
        size = size or picture.shape[:2]
        pictures.append(picture)
    said = [item.held_out for item in files]
    return Samples(
        np.stack(pictures),
        tuple(item.label for item in files),
        tuple(str(item.path) for item in files),
        tuple(bool(part) for part in said) if None not in said else None,
        CHANNELS[settings.colour],
        str(path),
    )


def image_size(settings: ImageSettings) -> tuple[int, int] | None:
    """Returns (height, width), or None: as the first picture is.

    Raises:
        DataError: The setting is no such pair.
    """
    if not settings.size:
        return None
    if len(settings.size) != 2 or not all(1 <= side <= 4096 for side in settings.size):
        raise DataError(
            f"image.size = {list(settings.size)}; allowed: [height, width], each 1 to 4096"
        )
    return settings.size[0], settings.size[1]


def load_picture(
    path: Path, settings: ImageSettings, size: tuple[int, int] | None
) -> NDArray[np.float32]:
    """Reads one picture, upright, in its colours, at `size`: float32 [height, width, colours].

    Raises:
        DataError: It cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                upright = ImageOps.exif_transpose(opened).convert(MODES[settings.colour])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise DataError(f"{path}: not a readable picture: {error}") from error
    return as_array(fitted(upright, settings.crop, size))


def fitted(picture: Image.Image, crop: str, size: tuple[int, int] | None) -> Image.Image:
    """Brings a picture to (height, width) by the declared way."""
    if size is None or picture.size == (size[1], size[0]):
        return picture
    target = (size[1], size[0])
    if crop == "centre":
        return ImageOps.fit(picture, target, Image.Resampling.BILINEAR)
    if crop == "pad":
        return ImageOps.pad(picture, target, Image.Resampling.BILINEAR, color=0)
    return picture.resize(target, Image.Resampling.BILINEAR)


def as_array(picture: Image.Image) -> NDArray[np.float32]:
    """A picture as float32 [height, width, colours], 0 to 1."""
    values = np.asarray(picture, np.float32) / np.float32(255)
    return values if values.ndim == 3 else values[:, :, None]


def augmented(
    picture: NDArray[np.float32], settings: ImageSettings, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Makes one changed copy: mirrored, turned, shifted, brighter or darker.

    Args:
        picture: float32 [height, width, colours], 0 to 1.
        settings: What may change, and how much.
        generator: Decides.
    """
    values = np.clip(picture * 255, 0, 255).round().astype(np.uint8)
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    if settings.flip and generator.random() < 0.5:
        image = ImageOps.mirror(image)
    height, width = picture.shape[:2]
    angle = math.radians(generator.uniform(-1, 1) * settings.rotate_degrees)
    right = generator.uniform(-1, 1) * settings.shift * width
    down = generator.uniform(-1, 1) * settings.shift * height
    turned = image.rotate(
        math.degrees(angle), Image.Resampling.BILINEAR, translate=(round(right), round(down))
    )
    bright = 1 + generator.uniform(-1, 1) * settings.brightness
    return np.asarray(np.clip(as_array(turned) * bright, 0, 1), np.float32)
