"""The C table of what a federated round works on (runtime/include/ondevice/round.h)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.compression import ROUND_PHASE, Compression, trained_weights
from ondevice_compiler.listing import Listing
from ondevice_compiler.ops.real_update import Q88_ONE
from ondevice_compiler.program import BYTES, Tensor

DTYPE_CONSTANTS = {
    "int8": "OD_INT8",
    "int16": "OD_INT16",
    "int32": "OD_INT32",
    "float32": "OD_FLOAT32",
    "uint8": "OD_UINT8",
    "uint32": "OD_UINT32",
}


def round_table(listing: Listing, compression: Compression) -> list[str]:
    """Lines of C that define `round_of_model`; none where a round keeps nothing."""
    if not compression.kept:
        return []
    weights = trained_weights(listing.program)
    codec = "0" if compression.codec == "none" else f"&od_codec_{compression.codec}"
    return [
        f"static const od_round_tensor_t round_tensors[{len(weights)}] = {{",
        *(_entry(listing, weight, compression) for weight in weights),
        "};",
        "",
        "static const od_round_t round_of_model = {",
        "    .operations = &od_round_operations,",
        f"    .codec = {codec},",
        "    .tensors = round_tensors,",
        f"    .count = {len(weights)},",
        f"    .kept = {compression.elements(sum(w.elements for w in weights))},",
        f"    .phase = {listing.names[ROUND_PHASE]},",
        f"    .anchored = {int(compression.proximal)},",
        "};",
        "",
    ]


def _entry(listing: Listing, weight: Tensor, compression: Compression) -> str:
    """One tensor: type, elements, elements a unit, units, weights, residual, anchor, velocity."""
    units = _units(weight)
    velocity = listing.program.tensors.get(f"{weight.name}.velocity")
    masked = velocity if compression.codec == "topk" else None

    def kept(kind: str) -> str:
        return listing.names.get(f"{weight.name}.{kind}", "0")

    values = [
        DTYPE_CONSTANTS[weight.dtype],
        str(weight.elements),
        str(weight.elements // len(units)),
        listing.table(units, "unit"),
        listing.names[weight.name],
        kept("residual"),
        kept("anchor"),
        "0" if masked is None else listing.names[masked.name],
        "0" if masked is None else str(BYTES[masked.dtype]),
    ]
    return f"    {{{', '.join(values)}}},"


def _units(weight: Tensor) -> NDArray[np.float32]:
    """Real value of one integer step, of each channel or of all."""
    if weight.quantization is None:
        return np.ones(1, np.float32)
    one = Q88_ONE if weight.dtype == "int16" else 1
    return (weight.quantization.scales / one).astype(np.float32)
