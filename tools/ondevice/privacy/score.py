"""How near a reconstruction comes to the samples that were private."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[np.float32]
RECOGNISABLE_SSIM = 0.5


@dataclass(frozen=True)
class Score:
    """Of one sample.

    Attributes:
        mse: Mean squared error, in the square of the input's units.
        psnr_db: 10 log10(range^2 / mse), the range being that of the data.
        ssim: Structural similarity; None where a sample is a vector or too small for a window.
        identified: Of all samples of the data, the private one is the most like what was found.
        recognisable: It is identified; found more exactly than its label alone would tell, that is
            with an error below that of a typical other sample of its class; and looks like it: SSIM
            above one half, where there is one.
    """

    mse: float
    psnr_db: float
    ssim: float | None
    identified: bool
    recognisable: bool


def matched(found: Array, private: Array) -> NDArray[np.int64]:
    """Which of the found samples belongs to each private one, so that the errors are least.

    The order within a batch is lost in its gradient. Hungarian assignment.
    """
    costs = ((found[None] - private[:, None]) ** 2).reshape(len(private), len(found), -1).mean(-1)
    return np.asarray(linear_sum_assignment(costs)[1], np.int64)


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores reconstructions of samples of a data set.

    Attributes:
        data: [n, ...sample shape].
        chosen: Indices of the private samples.
        typical_mse: Of each of these, the median error of the others of its class.
    """

    data: Array
    chosen: tuple[int, ...]
    typical_mse: NDArray[np.float64]

    @classmethod
    def of(cls, data: Array, labels: NDArray[np.int64], chosen: Sequence[int]) -> Judge:
        """Measures what is typical; where a class has one sample, of all others."""
        typical = []
        for index in chosen:
            others = labels == labels[index]
            others[index] = False
            if not others.any():
                others = np.arange(len(data)) != index
            typical.append(float(np.median(_errors(data[others], data[index]))))
        return cls(data, tuple(chosen), np.array(typical))

    @property
    def value_range(self) -> float:
        """Largest less smallest value of the data."""
        return float(self.data.max()) - float(self.data.min())

    def score(self, found: Array, which: int) -> Score:
        """Compares a reconstruction with a private sample.

        Args:
            found: [...sample shape].
            which: Index of `chosen`.
        """
        private, width = self.data[self.chosen[which]], self.value_range
        errors = _errors(self.data, found)
        mse = float(errors[self.chosen[which]])
        identified = mse <= float(errors.min())
        ssim = similarity(found, private, width)
        alike = ssim is None or ssim > RECOGNISABLE_SSIM
        return Score(
            mse=mse,
            psnr_db=float(10 * np.log10(width**2 / max(mse, 1e-20 * width**2))),
            ssim=ssim,
            identified=identified,
            recognisable=identified and alike and mse < float(self.typical_mse[which]),
        )


def _errors(data: Array, sample: Array) -> NDArray[np.float64]:
    """Mean squared error of each sample of the data."""
    flat = data.reshape(len(data), -1).astype(np.float64)
    return np.asarray(((flat - sample.reshape(-1)) ** 2).mean(1))


def similarity(found: Array, private: Array, value_range: float) -> float | None:
    """Structural similarity (Wang et al. 2004), mean over channels.

    Args:
        found: [channels, time] or [channels, rows, columns].
        private: Likewise.
        value_range: Largest less smallest value of the data.
    """
    if found.ndim < 2:
        return None
    window = min(7, *found.shape[1:])
    window -= 1 - window % 2
    if window < 3:
        return None
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            found, private, win_size=window, data_range=value_range, channel_axis=0
        )
    )
