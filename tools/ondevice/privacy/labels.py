"""Labels, read off the gradient of the last layer under cross entropy.

For one sample dL/dz = softmax(z) - onehot(y): negative for its class alone. The weight's row c is
that times the layer's input, so rows of other classes point the other way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ondevice.privacy.update import Update


def infer_labels(update: Update, layer: str, batch: int) -> NDArray[np.int64] | None:
    """Returns labels [batch], sorted; None: the update does not tell of the last layer.

    Args:
        update: Of a device.
        layer: The last one.
        batch: Samples in the update.
    """
    weight, bias = update.of(f"{layer}.weight"), update.of(f"{layer}.bias")
    if batch == 1 and bias is not None and bias.size == 2:
        return np.array([int(np.argmin(bias))])  # of two rows, each is opposite to the other
    if batch == 1 and weight is not None:
        return np.array([_opposite_row(weight.reshape(len(weight), -1))])
    if weight is not None:
        return np.sort(_lowest_rows(weight.reshape(len(weight), -1), batch))
    if bias is not None:
        return np.sort(np.argsort(bias.reshape(-1), kind="stable")[:batch])
    return None


def _opposite_row(rows: NDArray[np.float64]) -> int:
    """The class whose row points against all others (iDLG: Zhao, Mopuri, Bilen 2020).

    They ask for g_c . g_j <= 0 for all j; rounding and noise blur it, so the row that comes
    closest is taken. Where compression left one row alone, its sign decides: the layer's input is
    mostly not negative.
    """
    products = rows @ rows.T
    np.fill_diagonal(products, 0.0)
    against = products.sum(1)
    return int(np.argmin(against if against.min() < 0 else rows.sum(1)))


def _lowest_rows(rows: NDArray[np.float64], batch: int) -> NDArray[np.int64]:
    """The classes with the lowest minimum of their row, assuming that each is there once.

    Yin et al., "See through Gradients: Image Batch Recovery via GradInversion" (2021), equation 6;
    for inputs of the last layer that are not negative.
    """
    return np.argsort(rows.min(1), kind="stable")[:batch]
