"""Flower's strategies, chosen by the settings, and what of them must survive a restart."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx
from numpy.typing import NDArray

from ondevice.config import FederateSettings

WEIGHT_KEY = "num-examples"  # Flower's name for what an average is weighted by.
_MOMENTS = ("m_t", "v_t")


def make_strategy(settings: FederateSettings) -> FedAvg:
    """FedAvg (McMahan et al., 2017), FedProx (Li et al., 2020) or FedAdam (Reddi et al., 2021).

    Clients are evaluated by our own messages, hence `fraction_evaluate` of 1 here is never used.
    """
    common: dict[str, Any] = {
        "fraction_train": settings.fraction,
        "min_train_nodes": settings.min_clients,
        "min_available_nodes": settings.min_clients,
        "min_evaluate_nodes": 1,
        "weighted_by_key": WEIGHT_KEY,
    }
    if settings.strategy == "fedprox":
        return FedProx(**common, proximal_mu=settings.proximal_mu)
    if settings.strategy == "fedadam":
        return FedAdam(
            **common,
            eta=settings.server_learning_rate,
            beta_1=settings.server_beta1,
            beta_2=settings.server_beta2,
            tau=settings.server_tau,
        )
    return FedAvg(**common)


def strategy_state(strategy: FedAvg) -> dict[str, NDArray[Any]]:
    """The moments of an adaptive strategy, by moment and weight; else nothing."""
    return {
        f"{moment}/{key}": np.asarray(value)
        for moment in _MOMENTS
        for key, value in (getattr(strategy, moment, None) or {}).items()
    }


def restore_strategy(strategy: FedAvg, state: Mapping[str, NDArray[Any]]) -> None:
    """Puts back what `strategy_state` gave."""
    for moment in _MOMENTS:
        found = {
            key.partition("/")[2]: value for key, value in state.items() if key.startswith(moment)
        }
        if found:
            setattr(strategy, moment, found)
