"""The verb `ondevice privacy budget`."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

from ondevice.errors import UserError
from ondevice.privacy.accountant import Mechanism, epsilon, noise_for, usual_delta


def budget(
    samples: Annotated[int, typer.Option(min=1, help="Samples that are trained on")],
    lot: Annotated[int, typer.Option(min=1, help="Samples an update (--accumulate)")],
    epochs: Annotated[
        float, typer.Option(help="Passes over the samples, on average", min=0.0)
    ] = 3.0,
    noise_multiplier: Annotated[
        float | None, typer.Option(help="Noise (--dp-noise), for its epsilon", min=0.0)
    ] = None,
    target_epsilon: Annotated[
        float | None, typer.Option(help="Epsilon, for the least noise that keeps it")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="(default: 1e-5, or 0.1 / samples where that is less)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what epsilon a DP-SGD run spends, or which noise an epsilon needs."""
    if (noise_multiplier is None) == (target_epsilon is None):
        raise typer.BadParameter("give --noise-multiplier or --target-epsilon, one of them")
    chosen = usual_delta(samples) if delta is None else delta
    mechanism = Mechanism(samples, lot, math.ceil(samples * epochs / lot))
    if mechanism.updates == 0:
        raise UserError("0 epochs: nothing is trained and nothing spent")
    noise = noise_multiplier
    if noise is None:
        assert target_epsilon is not None
        noise = noise_for(mechanism, target_epsilon, chosen)
    found = epsilon(mechanism, noise, chosen)
    known = epsilon(mechanism, noise, chosen, sampled=False)
    if as_json:
        figures = {
            "samples": samples,
            "lot": lot,
            "updates": mechanism.updates,
            "noise_multiplier": noise,
            "delta": chosen,
            "epsilon": found if math.isfinite(found) else None,
            "epsilon_lots_known": known if math.isfinite(known) else None,
        }
        typer.echo(json.dumps(figures))
        return
    typer.echo(
        f"{mechanism.updates} updates of lots of {lot} from {samples} samples, noise multiplier "
        f"{noise:.4g}:"
    )
    typer.echo(f"epsilon {found:.3f} at delta {chosen:.3g} (lots drawn at random and kept secret)")
    typer.echo(f"epsilon {known:.3f} at delta {chosen:.3g} for who knows which samples each had")
