"""Examines model, data and board together; plans, but builds nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ondevice.boards import list_boards, load_board
from ondevice.check.data_findings import data_findings, range_findings
from ondevice.check.findings import BoardRoom, Finding, Need, Report
from ondevice.compiled_model import analyse_model, compile_options, load_model_directory
from ondevice.config import Config
from ondevice.data import Dataset, describe_dataset
from ondevice.errors import UserError
from ondevice.sources import compile_request, load_sources
from ondevice.target import target_board
from ondevice_compiler.errors import UserError as CompilerError
from ondevice_compiler.memory import MemoryNeed

if TYPE_CHECKING:
    from ondevice.boards import Board
    from ondevice_compiler.compile import Analysis, CompileOptions

SMALLER_SCHEMES = ("last-4", "last-2", "bias", "last")


def examine(config: Config, build_root: Path) -> Report:
    """Finds all that is wrong, not only the first.

    Args:
        config: All settings.
        build_root: Where the compiler keeps its caches.
    """
    findings: list[Finding] = []
    board: Board | None = None
    try:
        board = target_board(config.device, connect=False)
    except UserError as error:
        findings.append(Finding("error", str(error)))
    room = _room(board) if board is not None else None
    name = config.model.file.name if config.model.file is not None else "the demo's"
    report = Report(name, "", None, None, None, room, 0, 0, ())
    try:
        report = _examine_sources(config, build_root, board, report, findings)
    except (UserError, CompilerError) as error:
        findings.append(Finding("error", " ".join(str(error).split())))
    ordered = sorted(findings, key=lambda finding: finding.severity)
    return replace(report, findings=tuple(ordered))


def _examine_sources(
    config: Config, build_root: Path, board: "Board | None", report: Report, found: list[Finding]
) -> Report:
    sources = load_sources(config)
    steps = config.training.total_steps(len(sources.data.x))
    report = replace(report, data=describe_dataset(sources.data), steps=steps)
    if sources.model.is_dir():
        return _with_manifest(report, sources.model, sources.data, config, found)
    simd = board.simd if board is not None else "dsp"
    request = compile_request(config, sources, build_root, simd=simd)
    from ondevice_compiler.model_shapes import read_shapes

    shape, outputs = read_shapes(request.model, request.settings.head)
    report = replace(report, input_shape=shape, outputs=outputs)
    found += data_findings(sources.data, shape, outputs, config.model.loss)
    if any(finding.severity == "error" for finding in found):
        return report  # calibration would stop at the same
    analysis, options = analyse_model(request), compile_options(request)
    if analysis.calibration is not None:
        ranges = analysis.calibration
        source = analysis.joint.program.input
        found += range_findings(sources.data, ranges.low[source], ranges.high[source])
    need, sample_bytes = _planned(analysis, options)
    report = replace(report, need=need, sample_bytes=sample_bytes)
    if report.room is None or report.room.fits(need):
        return report
    found.append(Finding("error", _does_not_fit(report.room, need)))
    schemes = [other for other in _smaller(analysis, options) if report.room.fits(other)]
    boards = [name for name in list_boards() if name != "host" and _fits(name, need)]
    return replace(report, schemes=tuple(schemes), boards=tuple(boards))


def _with_manifest(
    report: Report, model: Path, data: Dataset, config: Config, found: list[Finding]
) -> Report:
    """A compiled model has its plan in its manifest."""
    manifest = load_model_directory(model).manifest
    memory, source = manifest["memory"], manifest["input"]
    shape, outputs = tuple(source["source_shape"][1:]), int(manifest["label"]["count"])
    found += data_findings(data, shape, outputs, manifest["loss"])
    keys = ("arena_bytes", "parameter_bytes", "state_bytes", "scale_bytes", "io_bytes")
    need = Need(
        manifest["scheme"]["name"],
        MemoryNeed(*(int(memory.get(key, 0)) for key in keys)),
        int(memory["const_bytes"]),
        sum(int(op.get("macs", 0)) for op in manifest["ops"]),
    )
    if report.room is not None and not report.room.fits(need):
        found.append(Finding("error", _does_not_fit(report.room, need)))
    bytes_of_sample = int(source["bytes"]) + int(manifest["label"]["bytes"])
    return replace(
        report, input_shape=shape, outputs=outputs, need=need, sample_bytes=bytes_of_sample
    )


def _room(board: "Board") -> BoardRoom:
    limited = board.run != "host"
    return BoardRoom(
        board.name,
        board.ram_bytes if limited else None,
        board.firmware_bytes if limited else None,
        board.stack_bytes if limited else 0,
    )


def _fits(board: str, need: Need) -> bool:
    return _room(load_board(board)).fits(need)


def _planned(analysis: "Analysis", options: "CompileOptions") -> tuple[Need, int]:
    """What the options' scheme needs, and the bytes of a sample with its label."""
    from ondevice_compiler.compile import plan_scheme

    planned = plan_scheme(analysis, options)
    program = planned.program
    parameters = [t for t in program.tensors.values() if t.kind == "parameter"]
    const_bytes = sum(tensor.size_bytes for tensor in parameters)  # trained ones begin there
    sample_bytes = sum(program.tensor(n).size_bytes for n in (program.input, program.label))
    return Need(planned.scheme.name, planned.memory, const_bytes, planned.macs), sample_bytes


def _smaller(analysis: "Analysis", options: "CompileOptions") -> Iterator[Need]:
    for scheme in SMALLER_SCHEMES:
        try:
            yield _planned(analysis, replace(options, scheme=scheme))[0]
        except CompilerError:
            continue  # a network of three layers has no last-4


def _does_not_fit(room: BoardRoom, need: Need) -> str:
    needed = room.ram_needed(need)
    if room.ram_bytes is not None and needed > room.ram_bytes:
        return (
            f"update {need.scheme!r} needs {needed:,} B of RAM on {room.name}, which has "
            f"{room.ram_bytes:,} B: {needed - room.ram_bytes:,} B too many"
        )
    return (
        f"the model's constants take {need.const_bytes:,} B of flash, and {room.name} has "
        f"{room.flash_bytes:,} B, with the code"
    )
