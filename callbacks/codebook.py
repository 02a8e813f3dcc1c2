"""Says so when a codebook starts to collapse."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer

from dig.console import warn

__all__ = ["CodebookHealth"]


class CodebookHealth(Callback):
    """Warns, once a level, in the epoch in which the share of its codes that items use falls under a threshold.

    Reads the `codebook/usage_<level>` that RQVAEModule logs; logs nothing itself.

    Args:
        min_usage: share of a level's codes under which it warns.
    """

    def __init__(self, min_usage: float = 0.8) -> None:
        self.min_usage = min_usage
        self._warned: set[str] = set()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares each level's usage with the threshold."""
        prefix = "codebook/usage_"
        for name, value in trainer.callback_metrics.items():
            if not name.startswith(prefix) or name in self._warned or float(value) >= self.min_usage:
                continue
            self._warned.add(name)
            if trainer.is_global_zero:
                epoch, level = trainer.current_epoch + 1, name.removeprefix(prefix)
                warn(
                    f"epoch {epoch}: only {float(value):.0%} of the codes of level {level} are in use (under "
                    f"{self.min_usage:.0%}); the codebook is collapsing and items will share Semantic IDs. Try a "
                    "smaller rqvae.codebook_size, a smaller rqvae.restart_after or a lower rqvae.learning_rate"
                )

    def state_dict(self) -> dict[str, list[str]]:
        """The levels warned of, so that a resumed run does not repeat itself."""
        return {"warned": sorted(self._warned)}

    def load_state_dict(self, state_dict: dict[str, list[str]]) -> None:
        """Takes over the levels warned of."""
        self._warned = set(state_dict["warned"])
