"""Layers that a scheme adds to the model before it is differentiated."""

from __future__ import annotations

from ondevice_compiler.load.normal_form import LoadedModel
from ondevice_compiler.scheme.channel_affine import with_affine
from ondevice_compiler.scheme.lite_residual import with_lite_residuals
from ondevice_compiler.scheme.update_scheme import UpdateScheme


def prepare(loaded: LoadedModel, scheme: str | UpdateScheme) -> LoadedModel:
    """The model that a scheme trains: with batch norms taken out (`bn`) or lite residuals added
    (`tinytl`); the same model for every other scheme.

    Raises:
        UserError: There is nothing that the scheme could train.
    """
    name = scheme if isinstance(scheme, str) else scheme.name
    if name == "bn":
        return with_affine(loaded)
    if name == "tinytl":
        return with_lite_residuals(loaded)
    return loaded
