"""Trains neural networks on microcontrollers: from Python, or as the command `ondevice`.

    import ondevice

    model = ondevice.compile(module, data=(x, y))
    with model.connect() as board:
        print(board.train_step(x[0], y[0], learning_rate=0.01).loss)

Names are imported on first use: `import ondevice` alone imports neither NumPy nor TVM.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ondevice.api.board import Board as Board
    from ondevice.api.compilation import compile as compile
    from ondevice.api.compilation import load as load
    from ondevice.api.model import Model as Model
    from ondevice.api.model_checkpoint import ModelCheckpoint as ModelCheckpoint
    from ondevice.api.results import Evaluation as Evaluation
    from ondevice.api.results import StepResult as StepResult
    from ondevice.api.run import Run as Run
    from ondevice.budget import BudgetError as BudgetError
    from ondevice.checkpoint import CheckpointError as CheckpointError
    from ondevice.config import ConfigError as ConfigError
    from ondevice.data import DataError as DataError
    from ondevice.data import Dataset as Dataset
    from ondevice.errors import BoardFault as BoardFault
    from ondevice.errors import DeviceError as DeviceError
    from ondevice.errors import HandshakeError as HandshakeError
    from ondevice.errors import LinkError as LinkError
    from ondevice.errors import UserError as UserError
    from ondevice.preprocessing import Preprocessing as Preprocessing
    from ondevice.rollback import TrainingDivergedError as TrainingDivergedError
    from ondevice_compiler.errors import DoesNotFitError as DoesNotFitError
    from ondevice_compiler.errors import UnsupportedOperatorsError as UnsupportedOperatorsError

_HOMES = {
    "Board": "ondevice.api.board",
    "compile": "ondevice.api.compilation",
    "load": "ondevice.api.compilation",
    "Model": "ondevice.api.model",
    "ModelCheckpoint": "ondevice.api.model_checkpoint",
    "Evaluation": "ondevice.api.results",
    "StepResult": "ondevice.api.results",
    "Run": "ondevice.api.run",
    "BudgetError": "ondevice.budget",
    "CheckpointError": "ondevice.checkpoint",
    "ConfigError": "ondevice.config",
    "DataError": "ondevice.data",
    "Dataset": "ondevice.data",
    "BoardFault": "ondevice.errors",
    "DeviceError": "ondevice.errors",
    "HandshakeError": "ondevice.errors",
    "LinkError": "ondevice.errors",
    "UserError": "ondevice.errors",
    "Preprocessing": "ondevice.preprocessing",
    "TrainingDivergedError": "ondevice.rollback",
    "DoesNotFitError": "ondevice_compiler.errors",
    "UnsupportedOperatorsError": "ondevice_compiler.errors",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
