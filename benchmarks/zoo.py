"""Networks other people made: where they are, what they read, and how they are trained here.

Files come from ../shared/data, which the product does not need; the autoencoder and the encoder
are built with random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
SCHEMES = ROOT / "benchmarks" / "schemes"
CLASSES = 10
SEQUENCE, VOCABULARY, WIDTH = 16, 100, 64


@dataclass(frozen=True)
class Network:
    """A network to train.

    Attributes:
        name: For tables.
        model: File, or a function that builds a torch module.
        shape: Of one sample.
        low, high: Range of the samples' values; integers below `high` for token ids.
        sparse: Update scheme that fits a small board.
        head: Outputs of a new last layer, None where the network keeps its own.
        classes: Of the labels; 0: the sample itself is the target.
        tokens: The network reads integers.
        rate: Learning rate at which it does not diverge on random samples.
    """

    name: str
    model: Path | Callable[[], Any]
    shape: tuple[int, ...]
    low: float
    high: float
    sparse: str
    head: int | None = None
    classes: int = CLASSES
    tokens: bool = False
    rate: float = 0.001

    @property
    def available(self) -> bool:
        """Whether its file is here."""
        return not isinstance(self.model, Path) or self.model.is_file()

    @property
    def loss(self) -> str:
        """Loss it is trained with."""
        return "cross_entropy" if self.classes else "mse"

    def source(self) -> Any:
        """What `compile_model` takes."""
        return self.model if isinstance(self.model, Path) else self.model()

    def samples(self, count: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
        """Random samples and labels: enough to compile, run and count, not to learn from."""
        generator = np.random.default_rng(seed)
        if self.tokens:
            x: NDArray[Any] = generator.integers(0, int(self.high), (count, *self.shape))
            x = x.astype(np.int32)
        else:
            x = generator.uniform(self.low, self.high, (count, *self.shape)).astype(np.float32)
        y = x.reshape(count, -1) if not self.classes else np.arange(count) % self.classes
        return x, y


def autoencoder() -> Any:
    """The shape of MLPerf Tiny's anomaly detector (ToyADMOS): 640-128x4-8-128x4-640."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    layers: list[Any] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 640)).eval()


def encoder() -> Any:
    """A small BERT-style encoder for sequence classification: 2 layers, width 64, 4 heads."""
    import torch
    from torch import nn

    class Encoder(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.positions = nn.Parameter(torch.randn(1, SEQUENCE, WIDTH) * 0.1)
            layer = nn.TransformerEncoderLayer(
                WIDTH, 4, 2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True
            )
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.classifier = nn.Linear(WIDTH, CLASSES)

        def forward(self, ids: Any) -> Any:
            x = self.layers(self.tokens(ids) + self.positions)
            return self.classifier(x.mean(1))

    torch.manual_seed(0)
    return Encoder().eval()


_TINY_TRAINING, _MLPERF = SHARED / "tiny-training", SHARED / "mlperf-tiny"
NETWORKS = {
    network.name: network
    for network in (
        Network(
            "mcunet-5fps",
            _TINY_TRAINING / "mcunet-5fps.pkl",
            (3, 128, 128),
            -1.0,
            1.0,
            f"sparse:{SCHEMES / 'mcunet-5fps-49kb.toml'}",
            head=CLASSES,
        ),
        Network(
            "mobilenetv2-w0.35",
            _TINY_TRAINING / "mbv2-w0.35.pkl",
            (3, 128, 128),
            -1.0,
            1.0,
            f"sparse:{SCHEMES / 'mbv2-w0.35-49kb.toml'}",
            head=CLASSES,
        ),
        Network(
            "mobilenetv1-vww", _MLPERF / "vww_96_int8.tflite", (96, 96, 3), 0.0, 1.0,
            f"sparse:{SCHEMES / 'vww-sparse.toml'}", classes=2,
        ),
        Network(
            "resnet8", _MLPERF / "pretrainedResnet_quant.tflite", (32, 32, 3), 0.0, 255.0,
            f"sparse:{SCHEMES / 'resnet8-sparse.toml'}", rate=1e-5,
        ),
        Network(
            "ds-cnn", _MLPERF / "kws_ref_model.tflite", (49, 10, 1), -100.0, 100.0, "last-3",
            classes=12,
        ),
        Network("autoencoder", autoencoder, (640,), -1.0, 1.0, "last-2", classes=0),
        Network(
            "encoder", encoder, (SEQUENCE,), 0, VOCABULARY, "last-2", tokens=True
        ),
    )
}  # fmt: skip
