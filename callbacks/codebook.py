"""Says so when a codebook starts to collapse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer

from dig.engine.console import warn

__all__ = ["CodebookHealth"]

_PREFIX = "codebook/batch_usage_"
_FALL = 0.1
"""Usage that wobbles by less is no collapse."""
_POOR_START = 0.5
"""k-means starts with all codes in use: a first epoch below this share has lost them."""


class CodebookHealth(Callback):
    """Warns, once a level, in the epoch whose batches use too few of its codes, and fewer than they did.

    An epoch's batches hold every item, so what they use is what the catalogue uses while it learns. Where dead codes
    are restarted, a level is given the time that a restart takes, since what comes back is no collapse. Reads
    ``codebook/batch_usage_<level>``, which RQVAEModule logs in every epoch; logs nothing itself.

    Args:
        restart_after: steps after which a dead code is restarted; 0 never.
        attainable: share of a level's codes that the catalogue could use at most, a level; fewer items than codes
            leave some free without anything being wrong.
        min_usage: share of the attainable codes under which it warns.
    """

    def __init__(
        self, restart_after: int = 0, attainable: Sequence[float] | None = None, min_usage: float = 0.8
    ) -> None:
        self.restart_after = restart_after
        self.attainable = attainable
        self.min_usage = min_usage
        self._warned: set[str] = set()
        self._best: dict[str, float] = {}
        self._since: dict[str, int] = {}  # the step before which a level was last in use
        self._start = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes where the epoch begins."""
        self._start = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares each level's usage with the threshold and with the best that it had."""
        for name, metric in trainer.callback_metrics.items():
            if not name.startswith(_PREFIX):
                continue
            level = name.removeprefix(_PREFIX)
            value, best = float(metric), self._best.get(name)
            self._best[name] = max(value, best or 0.0)
            most = self._most(level)
            falls = value <= best - _FALL if best is not None else value < _POOR_START * most
            if not (falls and value < self.min_usage * most):
                self._since.pop(name, None)
                continue
            since = self._since.setdefault(name, self._start)
            if trainer.global_step - since >= self.restart_after and name not in self._warned:
                self._warned.add(name)
                if trainer.is_global_zero:
                    warn(self._story(trainer.current_epoch + 1, level, value))

    def _most(self, level: str) -> float:
        return 1.0 if self.attainable is None else self.attainable[int(level) - 1]

    def _story(self, epoch: int, level: str, usage: float) -> str:
        return (
            f"epoch {epoch}: only {usage:.0%} of the codes of level {level} are in use (under {self.min_usage:.0%}), "
            "getting fewer; the codebook is collapsing and items will share Semantic IDs; try a smaller "
            "rqvae.codebook_size, a smaller rqvae.restart_after or a lower rqvae.learning_rate"
        )

    def state_dict(self) -> dict[str, Any]:
        """What was measured and warned of, so that a resumed run does not repeat itself."""
        return {"warned": sorted(self._warned), "best": dict(self._best), "since": dict(self._since)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what was measured and warned of."""
        self._warned, self._best = set(state_dict["warned"]), dict(state_dict["best"])
        self._since = dict(state_dict["since"])
