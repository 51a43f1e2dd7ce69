"""Flower and Ray are an extra; this is asked before any module that imports them."""

import logging
import os
from importlib.util import find_spec

from ondevice.errors import UserError

PRIVATE = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Environment in which neither phones home."""
# Words of a SuperNode's log: above the reason why it is not connected, and where the server has let
# it in.
NOT_CONNECTED = "Failed to initialize the connection"
CONNECTED = "SuperNode ID"


def quiet_flower() -> None:
    """Keeps Flower's own log lines off the terminal of a process: what failed is told by us."""
    logging.getLogger("flwr").setLevel(logging.CRITICAL)


def use_flower() -> None:
    """Sets the environment that Flower and Ray are imported in.

    Raises:
        UserError: They are not installed.
    """
    for package in ("flwr", "ray"):
        if find_spec(package) is None:
            raise UserError(
                f"federated training needs the extra federate (no package {package}): "
                "pip install 'ondevice-training[federate]'"
            )
    for name, value in PRIVATE.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns at each start
