"""A whole search of a tiny network, trained by the generated C on the host board."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ondevice.config import Config, ModelSettings, TrainingSettings
from ondevice.errors import UserError
from ondevice.input_settings import DataSettings
from ondevice.search import space as space_module
from ondevice.search.bench import Protocol, SearchInterrupted
from ondevice.search.events import RunFinished, SearchEvent
from ondevice.search.evolution import EvolutionSettings, Limits
from ondevice.search.run import LOG_NAME, SearchResult, SearchSettings, run_search
from ondevice.sources import load_sources
from ondevice_compiler.compile import CompileOptions, compile_model
from small_networks import CLASSES, NETWORKS

LIMIT_BYTES = 4096 + 650  # of the stack, and of a model that does not train everything


@dataclass(frozen=True)
class Bed:
    """A model file, data, and a folder for searches; builds are shared."""

    folder: Path
    config: Config

    def search(
        self,
        name: str,
        ram_bytes: int = LIMIT_BYTES,
        on_event: Callable[[SearchEvent], None] = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> SearchResult:
        sources = load_sources(self.config)
        settings = SearchSettings(
            Limits(ram_bytes),
            Protocol(self.config.training, (0.05,), (0,)),
            EvolutionSettings(8, 10),
            1,
            self.folder / name,
        )
        build = self.folder / "build"
        return run_search(
            self.config, sources, [sources.data], settings, build, print, on_event, should_stop
        )


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    import torch

    folder = tmp_path_factory.mktemp("search")
    network = NETWORKS["perceptron"]
    exported = torch.export.export(network.module(), (torch.randn(1, *network.shape),))
    torch.export.save(exported, folder / "tiny.pt2")
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((CLASSES, *network.shape))
    y = np.arange(60) % CLASSES
    x = (centres[y] + 0.3 * generator.standard_normal((60, *network.shape))).astype(np.float32)
    np.savez(folder / "data.npz", x=x[:40], y=y[:40], x_test=x[40:], y_test=y[40:])
    config = Config(
        model=ModelSettings(file=folder / "tiny.pt2"),
        data=DataSettings(file=folder / "data.npz"),
        training=TrainingSettings(epochs=2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space_module, "RATIOS", (0.5, 1.0))  # fewer to build
        yield Bed(folder, config)


@pytest.fixture(scope="module")
def result(bed: Bed) -> SearchResult:
    return bed.search("whole")


def test_the_winners_file_compiles_to_the_ram_and_macs_that_the_search_counted(
    bed: Bed, result: SearchResult
) -> None:
    sources = load_sources(bed.config)
    options = CompileOptions(name="tiny", scheme=f"sparse:{result.scheme_file}")
    made = compile_model(sources.model, sources.calibration_x, sources.calibration_y, options)
    cost = result.best.contender.cost
    assert cost.ram_bytes == made.manifest["memory"]["ram_bytes"] + 4096
    assert cost.ram_bytes <= LIMIT_BYTES
    assert cost.macs == sum(op["macs"] for op in made.manifest["ops"])
    assert set(made.manifest["scheme"]["parameters"]) == result.best.contender.scheme.parameters


def test_the_common_schemes_are_trained_too_even_where_they_are_too_big(
    result: SearchResult,
) -> None:
    groups = {row.contender.group: row.fits for row in result.rows}
    assert groups == {"searched": True, "last": True, "bias": True, "full": False}


def test_test_data_decides_nothing(bed: Bed, result: SearchResult) -> None:
    lines = (bed.folder / "whole" / LOG_NAME).read_text().splitlines()
    parts = [json.loads(line)["part"] for line in lines]
    first = parts.index("test")
    assert "validation" in parts[:first]
    assert len(parts) - first >= len(result.rows) - 2
    best = max(row.validation.mean for row in result.rows if row.fits)
    assert result.best.validation.mean == best


def test_an_interrupted_and_torn_search_goes_on_to_the_same_results(
    bed: Bed, result: SearchResult
) -> None:
    again = bed.folder / "again"
    again.mkdir()
    whole = (bed.folder / "whole" / LOG_NAME).read_bytes()
    lines = whole.splitlines(keepends=True)
    (again / LOG_NAME).write_bytes(b"".join(lines[:-3]) + lines[-3][:20])
    finished: list[RunFinished] = []

    def record(event: SearchEvent) -> None:
        if isinstance(event, RunFinished) and not event.known:
            finished.append(event)

    with pytest.raises(SearchInterrupted):
        bed.search("again", on_event=record, should_stop=lambda: len(finished) == 1)
    bed.search("again", on_event=record)
    assert len(finished) == 3
    assert (again / LOG_NAME).read_bytes() == whole
    for path in result.scheme_file.parent.iterdir():
        assert (
            again / result.scheme_file.parent.name / path.name
        ).read_bytes() == path.read_bytes()


def test_a_budget_below_the_smallest_scheme_is_refused(bed: Bed) -> None:
    with pytest.raises(UserError, match=r"--ram 4100: training the last layer alone needs \d+ B"):
        bed.search("small", ram_bytes=4100)
    assert not (bed.folder / "small").exists()
