"""Settings of what a model is fed: where samples come from and what is made of them."""

from dataclasses import dataclass, field
from pathlib import Path

_POSITIVE = {"minimum": 1, "maximum": 2**31}


@dataclass(frozen=True)
class DataSettings:
    """What is trained on; without `file`, the demo's unseen wearer.

    Attributes:
        file: A file, or a folder of them; see docs/data.md.
        test_file: Held-out samples, where `file` has none of its own.
        calibration: Sets the activations' ranges; None: samples of `file`.
        format: What `file` holds; auto: by its suffix, or by what a folder holds.
        label_column: Of a table: the class (or, with `targets`, unused).
        targets: Columns of a table that are float targets of a regression.
        columns: Of a table: the channels, in this order; empty: all numeric ones left.
        group_column: Of a table: rows with equal values are one recording.
        time_column: Of a table: seconds; never a channel.
        test_share: Held out where neither `file` nor `test_file` says what is: the end of each
            recording, or of independent samples that share of each class.
    """

    file: Path | None = None
    test_file: Path | None = None
    calibration: Path | None = None
    format: str = field(
        default="auto", metadata={"allowed": ("auto", "npz", "csv", "parquet", "images", "wav")}
    )
    label_column: str = "label"
    targets: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    group_column: str | None = None
    time_column: str = "t_s"
    test_share: float = field(default=0.3, metadata={"minimum": 0.0, "maximum": 0.9})


@dataclass(frozen=True)
class WindowSettings:
    """How recordings are cut into samples; without `samples` they are not cut.

    Attributes:
        samples: Length of a window.
        stride: From one training window to the next; None: half a window. Held-out windows never
            overlap.
        layout: Of a sample: channels first is [channels, samples] (images: [colours, height,
            width]), channels last [samples, channels].
    """

    samples: int | None = field(default=None, metadata=_POSITIVE)
    stride: int | None = field(default=None, metadata=_POSITIVE)
    layout: str = field(
        default="channels_first", metadata={"allowed": ("channels_first", "channels_last")}
    )


@dataclass(frozen=True)
class NormaliseSettings:
    """What each channel is normalised by: (value - offset) * gain.

    Attributes:
        method: none; standard: to mean 0 and standard deviation 1; rms: to root mean square 1,
            keeping 0; range: to 0 to 1; given: by `offset` and `gain`. Fitted on training data.
        offset: Of "given": one number, or one a channel.
        gain: Likewise.
    """

    method: str = field(
        default="none", metadata={"allowed": ("none", "standard", "rms", "range", "given")}
    )
    offset: tuple[float, ...] = ()
    gain: tuple[float, ...] = ()


@dataclass(frozen=True)
class ImageSettings:
    """What is made of a picture; values are 0 to 1 before normalisation.

    Attributes:
        size: Height and width in pixels; empty: as the first picture is.
        crop: How a picture of another shape becomes that: centre (scaled, then cut), pad (scaled,
            then black borders) or stretch.
        colour: rgb or grey.
        copies: Augmented copies of each training picture, besides itself; held-out ones have none.
        flip: Copies may be mirrored.
        shift: Largest shift of a copy, as a share of its size.
        rotate_degrees: Largest turn of a copy.
        brightness: Largest change of a copy's brightness, as a share.
    """

    size: tuple[int, ...] = ()
    crop: str = field(default="centre", metadata={"allowed": ("centre", "pad", "stretch")})
    colour: str = field(default="rgb", metadata={"allowed": ("rgb", "grey")})
    copies: int = field(default=0, metadata={"minimum": 0, "maximum": 100})
    flip: bool = True
    shift: float = field(default=0.1, metadata={"minimum": 0.0, "maximum": 0.5})
    rotate_degrees: float = field(default=0.0, metadata={"minimum": 0.0, "maximum": 180.0})
    brightness: float = field(default=0.1, metadata={"minimum": 0.0, "maximum": 1.0})


@dataclass(frozen=True)
class AudioSettings:
    """What is made of sound; lengths in samples at `rate_hz`. `[window]` cuts it first.

    Attributes:
        rate_hz: Recordings of another rate are resampled.
        features: none (the samples, -1 to 1), log_mel or mfcc; see docs/features.md.
        frame_samples: Length of a frame that one spectrum is of.
        hop_samples: From one frame to the next.
        fft_size: A power of two, at least `frame_samples`.
        mels: Bands of the mel filter bank.
        low_hz: Lower edge of the lowest band.
        high_hz: Upper edge of the highest band.
        coefficients: Of mfcc, the first so many.
    """

    rate_hz: int = field(default=16000, metadata={"minimum": 1000, "maximum": 192000})
    features: str = field(default="none", metadata={"allowed": ("none", "log_mel", "mfcc")})
    frame_samples: int = field(default=480, metadata={"minimum": 16, "maximum": 4096})
    hop_samples: int = field(default=320, metadata={"minimum": 1, "maximum": 65536})
    fft_size: int = field(default=512, metadata={"minimum": 16, "maximum": 4096})
    mels: int = field(default=40, metadata={"minimum": 1, "maximum": 128})
    low_hz: float = field(default=20.0, metadata={"minimum": 0.0, "maximum": 96000.0})
    high_hz: float = field(default=7600.0, metadata={"minimum": 1.0, "maximum": 96000.0})
    coefficients: int = field(default=10, metadata={"minimum": 1, "maximum": 128})
