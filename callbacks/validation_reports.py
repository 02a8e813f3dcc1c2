"""Tells somebody outside how validation goes, and stops training when they have seen enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from dig.config import UserError

__all__ = ["StoppedEarly", "ValidationReports"]


class StoppedEarly(Exception):  # noqa: N818 - no error
    """Training was stopped because others do better; its checkpoints stay, so that it could go on."""


class ValidationReports(Callback):
    """Reports a metric after each validation of training, numbered from 1, also over interruptions.

    Args:
        metric: its name in the log.
        report: takes the number of the validation and the metric, and says whether to stop.

    Raises:
        StoppedEarly: from within the training loop, if it said so.
        UserError: the metric is no number.
    """

    def __init__(self, metric: str, report: Callable[[int, float], bool]) -> None:
        self.metric = metric
        self.report = report
        self._validations = 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Reports; validations before and after training choose weights and are not counted."""
        if trainer.state.fn != TrainerFn.FITTING or self.metric not in trainer.callback_metrics:
            return
        self._validations += 1
        value = float(trainer.callback_metrics[self.metric])
        if not math.isfinite(value):
            raise UserError(f"{self.metric} is {value} at validation {self._validations}")
        if self.report(self._validations, value):
            raise StoppedEarly(f"{self.metric} {value:.4f} at validation {self._validations}")

    def state_dict(self) -> dict[str, Any]:
        """How many validations there were."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self._validations = int(state_dict["validations"])
