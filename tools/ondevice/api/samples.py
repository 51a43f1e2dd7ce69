"""Samples that a person hands to a board: one or several, checked before anything is sent."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.api.inputs import array_of
from ondevice.data import DataError, check_dataset, make_dataset
from ondevice.evaluation import pack_samples


def shaped(manifest: dict[str, Any], x: Any) -> tuple[NDArray[np.float32], bool]:
    """Returns samples [n, ...sample shape], and whether it was one without the first axis.

    Raises:
        DataError: The model does not take samples of this shape.
    """
    wanted = tuple(manifest["input"]["source_shape"][1:])
    values = np.asarray(array_of(x), np.float32)
    if values.shape == wanted:
        return values[np.newaxis], True
    if values.shape[1:] == wanted and len(values):
        return values, False
    raise DataError(
        f"x has shape {list(values.shape)}; model {manifest['name']!r} takes {list(wanted)}, or "
        f"[n, {', '.join(map(str, wanted))}]"
    )


def packed(manifest: dict[str, Any], x: Any, y: Any) -> list[tuple[bytes, bytes]]:
    """Checks samples and labels, and packs them as the board reads them.

    Raises:
        DataError: They do not fit the model.
    """
    values, single = shaped(manifest, x)
    labels = array_of(y)
    labels = labels[np.newaxis] if single else labels
    if labels.ndim == 0 or len(labels) != len(values):
        count = len(labels) if labels.ndim else 1
        raise DataError(f"x has {len(values)} samples but y has {count} labels")
    data = make_dataset({"x": values, "y": labels, "x_test": values, "y_test": labels}, "x, y")
    check_dataset(data, manifest)
    return pack_samples(manifest, data.x, data.y)
