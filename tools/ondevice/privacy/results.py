"""What an audit is asked for, and what it measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.privacy.attack import AttackName
from ondevice.privacy.scenarios import Scenario
from ondevice.privacy.score import Score
from ondevice.privacy.subject import Subject


@dataclass(frozen=True)
class AuditSettings:
    """How it is measured.

    Attributes:
        samples: Private samples, the same in every row.
        restarts: Searches at most, each from other noise; the best match is taken.
        iterations: Of each; None: the attack's own number.
        attacks: Instead of the rows' own; empty: those.
        seed: Of private samples, first guesses and noise.
    """

    samples: int = 4
    restarts: int = 1
    iterations: int | None = None
    attacks: tuple[AttackName, ...] = ()
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Row:
    """What an attack made of a scenario.

    Attributes:
        scenario: What was sent.
        attack: How it was attacked.
        scores: One a private sample.
        labels_recovered: Share.
        matching_loss: Mean over updates of what was left.
        size_bytes: Of an update's message; None: the defence is not the device's.
        sent_share: Of the change's elements, those that were sent.
        noise_to_gradient: Power of the noise over that of the gradient; 0 without noise.
        evaluations: Gradients that the attack took, of all updates and restarts.
        found: float32 [samples, ...sample shape], in the order of the private ones.
    """

    scenario: Scenario
    attack: AttackName
    scores: tuple[Score, ...]
    labels_recovered: float
    matching_loss: float
    size_bytes: int | None
    sent_share: float
    noise_to_gradient: float
    evaluations: int
    found: NDArray[np.float32]

    @property
    def recognisable(self) -> int:
        """Samples that are."""
        return sum(one.recognisable for one in self.scores)

    @property
    def identified(self) -> int:
        """Samples that are."""
        return sum(one.identified for one in self.scores)

    @property
    def mse(self) -> float:
        """Mean over samples."""
        return float(np.mean([one.mse for one in self.scores]))

    @property
    def psnr_db(self) -> float:
        """Mean over samples."""
        return float(np.mean([one.psnr_db for one in self.scores]))

    @property
    def ssim(self) -> float | None:
        """Mean over samples."""
        found = [one.ssim for one in self.scores if one.ssim is not None]
        return float(np.mean(found)) if found else None

    def record(self) -> dict[str, Any]:
        """Its figures for JSON."""
        return {
            "name": self.scenario.name,
            "title": self.scenario.title,
            "group": self.scenario.group,
            "options": {key: str(value) for key, value in self.scenario.compiled.items()},
            "defence": asdict(self.scenario.defence) if self.scenario.defence else None,
            "sent_only": self.scenario.sent_only,
            "batch": self.scenario.batch,
            "passes": self.scenario.passes,
            "learning_rate": self.scenario.learning_rate,
            "attack": self.attack,
            "mse": self.mse,
            "psnr_db": self.psnr_db,
            "ssim": self.ssim,
            "labels_recovered": self.labels_recovered,
            "identified": self.identified,
            "recognisable": self.recognisable,
            "samples": [asdict(one) for one in self.scores],
            "matching_loss": self.matching_loss,
            "bytes": self.size_bytes,
            "sent_share": self.sent_share,
            "noise_to_gradient": self.noise_to_gradient,
            "evaluations": self.evaluations,
        }


@dataclass(frozen=True, eq=False)
class Audit:
    """Everything that was measured.

    Attributes:
        subject: That was audited.
        settings: How.
        chosen: Indices of the private samples in the subject's data.
        private: float32 [samples, ...sample shape].
        labels: [samples].
        typical_mse: [samples], of the others of the class: `Judge`.
        rows: In the order of the scenarios.
        left_out: Scenarios that this network cannot have, with the reason.
        interrupted: The person stopped it.
    """

    subject: Subject
    settings: AuditSettings
    chosen: tuple[int, ...]
    private: NDArray[np.float32]
    labels: NDArray[np.int64]
    typical_mse: NDArray[np.float64]
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, str], ...]
    interrupted: bool
