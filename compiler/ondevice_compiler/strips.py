"""Strips: a run of forward steps executed band by band of rows, instead of map by map.

Maps are N, H, W, C, so a band of rows is contiguous. Each band brings the run's last map some rows
further; every earlier map is computed just as far as those rows need. A map that only the run reads
keeps a buffer of a few rows: what the next band reads again (the window's overlap) is moved to its
front, so nothing is computed twice. This is patch-based inference (Lin et al., MCUNetV2, 2021)
without its recomputation of halos. The result is the same bit for bit: only the order changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ondevice_compiler.access import Window, row_window
from ondevice_compiler.program import BYTES, Program, Step, Strip, Tensor

Rows = tuple[int, int]  # First row and the one after the last.
FOLLOWERS = ("pack_mask", "max_pool2d_argmax", "slice_channels")  # What backward needs of a map.
MAPS = ("input", "activation", "mask")


@dataclass(frozen=True)
class BandStep:
    """The part of one step that one band computes.

    Attributes:
        index: Of the step in the program.
        written: Rows of its output.
        read: Rows of each map that it reads, in the order of the step's inputs; None where the
            input is no map.
    """

    index: int
    written: Rows
    read: tuple[Rows | None, ...]


@dataclass(frozen=True)
class Band:
    """One pass over the run.

    Attributes:
        steps: In order; a step that has no rows to compute is left out.
        held: For each buffered map, its rows that are in the buffer when the band ends.
        moved: Buffered map -> those of its rows that the next band still needs, where they have
            to move to the front.
    """

    steps: tuple[BandStep, ...]
    held: Mapping[str, Rows]
    moved: Mapping[str, Rows]


@dataclass(frozen=True)
class Layout:
    """How a strip is executed.

    Attributes:
        bands: In order.
        heights: Rows of every map.
        buffer_rows: Rows of the buffer of each map that only the strip itself reads.
        kept: Buffered maps of which a band leaves rows for the next.
    """

    bands: tuple[Band, ...]
    heights: Mapping[str, int]
    buffer_rows: Mapping[str, int]
    kept: frozenset[str]


def strip_layout(program: Program, strip: Strip) -> Layout | None:
    """Geometry of a strip; None where its steps cannot be executed band by band."""
    steps = list(enumerate(program.steps))[strip.first : strip.last + 1]
    heights = _heights(program, steps)
    if heights is None:
        return None
    windows: list[tuple[int, Step, list[Window | None]]] = []
    for index, step in steps:
        found = [row_window(step, program, p) for p in range(len(step.inputs))]
        maps = [program.tensor(name).kind in MAPS for name in step.inputs]
        if step.phase != "forward" or len(step.outputs) != 1 or None in _of(found, maps):
            return None
        if program.output in step.outputs:
            return None
        windows.append((index, step, [w if m else None for w, m in zip(found, maps, strict=True)]))
    mapped = [step.outputs[0] for _, step in steps if step.op not in FOLLOWERS]
    final = mapped[-1] if mapped else None
    if final is None:
        return None
    whole = _whole(program, strip, final)
    ends = _ends(windows, heights, whole, final, strip.rows)
    return None if ends is None else _bands(windows, heights, whole, ends)


def resident_tensor(program: Program, name: str, layouts: Mapping[str, Layout]) -> Tensor:
    """The tensor as it lies in memory: of a buffered map, only the buffer's rows.

    Args:
        program: Holds the tensor.
        name: Of the tensor.
        layouts: For each buffered map, the layout of its strip.
    """
    tensor = program.tensor(name)
    if name not in layouts:
        return tensor
    layout = layouts[name]
    return with_rows(tensor, layout.heights[name], layout.buffer_rows[name])


def buffered(program: Program) -> dict[str, Layout]:
    """The layout of its strip for each map that lives in a buffer of some rows."""
    found = {}
    for strip in program.strips:
        layout = strip_layout(program, strip)
        assert layout is not None, f"strip {strip} cannot be executed band by band"
        found.update(dict.fromkeys(layout.buffer_rows, layout))
    return found


def with_rows(tensor: Tensor, height: int, rows: int) -> Tensor:
    """The tensor with only `rows` of its `height` rows."""
    if len(tensor.shape) == 4:
        _, _, width, channels = tensor.shape
        return replace(tensor, shape=(1, rows, width, channels))
    return replace(tensor, shape=(tensor.elements // height * rows,))


def row_elements(tensor: Tensor, height: int) -> int:
    """Elements of one row of a map."""
    return tensor.elements // height


def band_step(program: Program, layout: Layout, part: BandStep) -> tuple[Step, Program]:
    """A step as one band executes it: on maps of as many rows, padded at the map's ends only."""
    step = program.steps[part.index]
    tensors = dict(program.tensors)
    output = step.outputs[0]
    rows = {output: part.written} | {
        name: read for name, read in zip(step.inputs, part.read, strict=True) if read is not None
    }
    for name, (first, end) in rows.items():
        tensors[name] = with_rows(program.tensor(name), layout.heights[name], end - first)
    window = row_window(step, program, 0)
    if "padding" in step.attributes and window is not None and part.read[0] is not None:
        _, left, _, right = step.attributes["padding"]
        first, end = part.written
        top = max(0, window.before - first * window.stride)
        below = (end - 1) * window.stride + window.kernel - window.before
        bottom = max(0, below - layout.heights[step.inputs[0]])
        step = step.with_attributes(padding=(top, left, bottom, right))
    return step, replace(program, tensors=tensors, strips=())


def step_in_bands(program: Program, layout: Layout, index: int) -> list[tuple[Step, Program]]:
    """A step in all its different forms in a strip's bands."""
    forms: dict[object, BandStep] = {}
    for band in layout.bands:
        for part in band.steps:
            if part.index == index:
                rows = [r and r[1] - r[0] for r in (part.written, *part.read)]
                top = part.read[0] is not None and part.read[0][0] == 0
                forms.setdefault((*rows, top and part.written[0]), part)
    return [band_step(program, layout, part) for part in forms.values()]


def stage_distance(program: Program, strip: Strip, layout: Layout, output: str, source: str) -> int:
    """How far before `source` the map `output` must start, both whole maps, to overwrite it.

    Bytes; see `access.overlap_distance`. Rows count as unread until the band that reads them last
    has ended, and as written when the band begins.
    """
    out_bytes, in_bytes = (
        row_elements(program.tensor(n), layout.heights[n]) * BYTES[program.tensor(n).dtype]
        for n in (output, source)
    )
    last_reads = _last_readers(program, strip, source)
    furthest = -layout.heights[source] * in_bytes
    for number, band in enumerate(layout.bands):
        written = [part.written[1] for part in band.steps if _writes(program, part, output)]
        if not written:
            continue
        writer = max(part.index for part in band.steps if _writes(program, part, output))
        # A band whose readers are all done when the output is written may be overwritten.
        ahead = number + 1 if last_reads < writer else number
        unread = [
            rows[0]
            for later in layout.bands[ahead:]
            for part in later.steps
            for name, rows in zip(program.steps[part.index].inputs, part.read, strict=True)
            if name == source and rows is not None
        ]
        if unread:
            furthest = max(furthest, max(written) * out_bytes - min(unread) * in_bytes)
    return furthest


def _of(found: list[Window | None], maps: list[bool]) -> list[Window | None]:
    return [window for window, is_map in zip(found, maps, strict=True) if is_map]


def _writes(program: Program, part: BandStep, name: str) -> bool:
    return name in program.steps[part.index].outputs


def _last_readers(program: Program, strip: Strip, name: str) -> int:
    indices = range(strip.first, strip.last + 1)
    return max((i for i in indices if name in program.steps[i].inputs), default=-1)


def _heights(program: Program, steps: list[tuple[int, Step]]) -> dict[str, int] | None:
    """Rows of every map; None where one is no map, or a row of bits does not end in a byte."""
    heights: dict[str, int] = {}
    for _, step in steps:
        for name in (*step.inputs, *step.outputs):
            tensor = program.tensor(name)
            if tensor.kind not in MAPS or name in heights:
                continue
            if tensor.view_of is not None:
                return None
            if len(tensor.shape) == 4:
                heights[name] = tensor.shape[1]
            elif step.op == "pack_mask" and step.inputs[0] in heights:
                source = program.tensor(step.inputs[0])
                if (source.elements // heights[step.inputs[0]]) % 8:
                    return None
                heights[name] = heights[step.inputs[0]]
            else:
                return None
    return heights


def _whole(program: Program, strip: Strip, final: str) -> set[str]:
    """Maps of the strip that something outside it reads or writes, and its last map."""
    inside = range(strip.first, strip.last + 1)
    whole = {final}
    for index, step in enumerate(program.steps):
        if index not in inside:
            whole.update(program.storage(n)[0] for n in (*step.inputs, *step.outputs))
    written = {name for index in inside for name in program.steps[index].outputs}
    for index in inside:
        whole.update(name for name in program.steps[index].inputs if name not in written)
    return whole


def _ends(
    windows: list[tuple[int, Step, list[Window | None]]],
    heights: dict[str, int],
    whole: set[str],
    final: str,
    rows: int,
) -> list[dict[str, int]] | None:
    """For each band, how many rows of every map exist when it ends.

    Returns:
        None where the run computes more than its last map needs, masks of it apart.
    """
    readers = {name for _, step, _ in windows for name in step.inputs}
    count = -(-heights[final] // rows)
    ends = []
    for band in range(count):
        needed = {final: min(heights[final], rows * (band + 1))}
        for _, step, sizes in reversed(windows):
            out = step.outputs[0]
            if band == count - 1 and out in whole:
                needed[out] = heights[out]
            if out not in needed:
                continue
            for name, window in zip(step.inputs, sizes, strict=True):
                if window is not None:
                    needed[name] = max(
                        needed.get(name, 0), _rows_below(window, needed[out], name, heights)
                    )
        for _, step, sizes in windows:
            out = step.outputs[0]
            if out in needed and (out == final or out in readers):
                continue
            pairs = zip(step.inputs, sizes, strict=True)
            follows = [needed.get(n, 0) for n, w in pairs if w == Window(1, 1, 0)]
            if out in readers or not follows:
                return None
            needed[out] = min(follows)  # A mask: as far as what it is the mask of.
        ends.append(needed)
    return ends


def _rows_below(window: Window, end: int, name: str, heights: dict[str, int]) -> int:
    """Rows of an input that must exist for the first `end` rows of an output."""
    if end == 0:
        return 0
    return max(0, min(heights[name], (end - 1) * window.stride + window.kernel - window.before))


def _bands(
    windows: list[tuple[int, Step, list[Window | None]]],
    heights: dict[str, int],
    whole: set[str],
    ends: list[dict[str, int]],
) -> Layout | None:
    parts: list[list[BandStep]] = []
    first_read: list[dict[str, int]] = []
    for number, end in enumerate(ends):
        before = ends[number - 1] if number else dict.fromkeys(end, 0)
        band: list[BandStep] = []
        lowest: dict[str, int] = {}
        for index, step, sizes in windows:
            written = (before[step.outputs[0]], end[step.outputs[0]])
            if written[0] == written[1]:
                continue
            read: list[Rows | None] = []
            for name, window in zip(step.inputs, sizes, strict=True):
                if window is None:
                    read.append(None)
                    continue
                top = max(0, written[0] * window.stride - window.before)
                bottom = _rows_below(window, written[1], name, heights)
                if bottom <= top:  # A window in the padding alone.
                    return None
                read.append((top, bottom))
                lowest[name] = min(lowest.get(name, top), top)
            band.append(BandStep(index, written, tuple(read)))
        parts.append(band)
        first_read.append(lowest)
    buffers = {step.outputs[0] for _, step, _ in windows} - whole
    bases = {name: _bases(name, first_read, ends) for name in buffers}
    bands, kept = [], set()
    for number, band in enumerate(parts):
        held = {n: (bases[n][number], ends[number][n]) for n in sorted(buffers)}
        moved = {}
        if number + 1 < len(parts):
            for name, (base, end_row) in held.items():
                following = bases[name][number + 1]
                if following < end_row:
                    kept.add(name)
                    if following > base:
                        moved[name] = (following, end_row)
        bands.append(Band(tuple(band), held, moved))
    rows = {n: max(band.held[n][1] - band.held[n][0] for band in bands) for n in sorted(buffers)}
    return Layout(tuple(bands), heights, rows, frozenset(kept))


def _bases(name: str, first_read: list[dict[str, int]], ends: list[dict[str, int]]) -> list[int]:
    """First row that the buffer holds in each band: written in it, or read by it or a later one."""
    bases: list[int] = []
    following = ends[-1][name]
    for number in reversed(range(len(ends))):
        following = min(first_read[number].get(name, following), following)
        written = ends[number - 1][name] if number else 0
        bases.append(min(following, written))
    return bases[::-1]
