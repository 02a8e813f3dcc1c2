"""Says so when a codebook starts to collapse."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from dig.console import warn

__all__ = ["CodebookHealth"]

_PREFIX = "codebook/usage_"
_FALLS = 2  # measurements in a row; the first epochs wobble until restarted codes have found their items


class CodebookHealth(Callback):
    """Warns, once a level, when the share of its codes that items use lies under a threshold and keeps falling.

    Usage that is low but rising belongs to the first epochs and is no collapse. Reads ``codebook/usage_<level>``, which
    RQVAEModule logs; logs nothing itself.

    Args:
        min_usage: share of a level's codes under which it warns.
    """

    def __init__(self, min_usage: float = 0.8) -> None:
        self.min_usage = min_usage
        self._warned: set[str] = set()
        self._before: dict[str, float] = {}
        self._falls: dict[str, int] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares each level's usage with the threshold and with the measurement before."""
        for name, metric in trainer.callback_metrics.items():
            if name.startswith(_PREFIX):
                value, before = float(metric), self._before.get(name, 0.0)
                self._before[name] = value
                self._falls[name] = self._falls.get(name, 0) + 1 if value < before else 0
                if self._falls[name] >= _FALLS and value < self.min_usage and name not in self._warned:
                    self._warned.add(name)
                    if trainer.is_global_zero:
                        warn(self._story(trainer.current_epoch + 1, name.removeprefix(_PREFIX), value))

    def _story(self, epoch: int, level: str, usage: float) -> str:
        return (
            f"epoch {epoch}: only {usage:.0%} of the codes of level {level} are in use (under {self.min_usage:.0%}), "
            "getting fewer; the codebook is collapsing and items will share Semantic IDs; try a smaller "
            "rqvae.codebook_size, a smaller rqvae.restart_after or a lower rqvae.learning_rate"
        )

    def state_dict(self) -> dict[str, Any]:
        """What was measured and warned of, so that a resumed run does not repeat itself."""
        return {"warned": sorted(self._warned), "before": dict(self._before), "falls": dict(self._falls)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what was measured and warned of."""
        self._warned = set(state_dict["warned"])
        self._before, self._falls = dict(state_dict["before"]), dict(state_dict["falls"])
