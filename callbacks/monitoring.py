"""What a training shows: throughput, bars, rollout diagnostics, encoded vectors, validation for somebody outside."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, Callback, RichProgressBar
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from dig.config import UserError
from dig.embeddings.cache import VectorCache
from dig.engine.console import progress_enabled, warn
from dig.rollouts.record import Rollouts

__all__ = [
    "Throughput",
    "StoppedEarly",
    "ValidationReports",
    "RolloutHealth",
    "RolloutSamples",
    "Bar",
    "EncodingBar",
    "LogOften",
    "VectorWriter",
]


class Throughput(Callback):
    """Samples per second over all ranks, validation and the first batch left out.

    Logged as ``train/samples_per_second`` at every epoch's end.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._samples = 0
        self._started: float | None = None

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts the clock, but not for the batch that pays for warming up."""
        self._started = time.perf_counter() if trainer.global_step > 0 else None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops it."""
        if self._started is not None:
            self._seconds += time.perf_counter() - self._started
            self._samples += len(_rows(batch)) * trainer.world_size

    @property
    def samples_per_second(self) -> float | None:
        """The rate so far; None before it is known."""
        return self._samples / self._seconds if self._seconds else None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Logs the rate."""
        if self.samples_per_second is not None:
            pl_module.log("train/samples_per_second", self.samples_per_second)


def _rows(batch: Any) -> Any:
    """What there is one of for every sample."""
    for name in ("samples", "input_ids"):
        if hasattr(batch, name):
            return getattr(batch, name)
    return batch


class StoppedEarly(Exception):  # noqa: N818 - no error
    """Training was stopped because others do better; its checkpoints stay, so that it could resume."""


class ValidationReports(Callback):
    """Reports a metric after each validation of training, numbered from 1, also over interruptions.

    Args:
        metric: its name in the log.
        report: takes the number of the validation and the metric, and says whether to stop.

    Raises:
        StoppedEarly: from within the training loop, if it said so.
        UserError: the metric is not a number.
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


_WARNINGS = {
    "rollout/frac_reward_zero_std": "{value:.0%} of the groups had equal rewards in the last {count} batches, so "
    "almost nothing is learned; raise grpo.group_size, grpo.temperature, grpo.dynamic_sampling or a graded reward "
    "(grpo.reward.prefix, grpo.reward.similarity)",
    "train/kl": "the policy has moved far from the reference (KL {value:.1f} for {count} batches); lower "
    "grpo.learning_rate or raise grpo.kl_weight",
}
_COLUMNS = [
    "step",
    "history",
    "target",
    "its interests",
    "rolled out",
    "times",
    "hit",
    "reward",
    "advantage",
    "terms",
    "interests behind",
]
_OF_ROLLOUT = ("times", "hit", "reward", "advantage")
_GROUPS = 2
"""Groups shown at a time."""
_HISTORY = 10
"""Latest items of a history."""


class RolloutHealth(Callback):
    """Warns once for each way in which GRPO stalls.

    Args:
        dead_share: groups without variance above this share teach nothing.
        max_kl: a divergence from the reference above this has run away.
        patience: batches in a row before a warning.
    """

    def __init__(self, dead_share: float = 0.95, max_kl: float = 5.0, patience: int = 10) -> None:
        self.limits = {"rollout/frac_reward_zero_std": dead_share, "train/kl": max_kl}
        self.patience = patience
        self._streaks = dict.fromkeys(self.limits, 0)
        self._said: set[str] = set()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts batches over a limit."""
        for name, limit in self.limits.items():
            value = trainer.callback_metrics.get(name)
            self._streaks[name] = self._streaks[name] + 1 if value is not None and float(value) > limit else 0
            if self._streaks[name] == self.patience and name not in self._said:
                self._said.add(name)
                warn(_WARNINGS[name].format(value=float(value), count=self.patience))  # type: ignore[arg-type]


class RolloutSamples(Callback):
    """Writes some groups of the first rollout batch and of every ``every``-th, a JSON line each, and a W&B table.

    Of a batch the groups with the most different rewards are shown, one that holds the target first.

    Args:
        path: the file; a resumed run appends to it.
        item_ids: by catalogue row, as are the rest.
        titles: of the items.
        interests: what is positively labelled of each item, joined.
        every: rollout batches.
    """

    def __init__(
        self,
        path: Path,
        item_ids: Sequence[str],
        titles: Sequence[str | None],
        interests: Sequence[str | None],
        every: int = 20,
    ) -> None:
        self.path = path
        self.item_ids = item_ids
        self.titles = titles
        self.interests = interests
        self.every = every

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes, when it is time."""
        rollouts: Rollouts | None = getattr(pl_module, "latest", None)
        if rollouts is None or batch_idx % self.every or not trainer.is_global_zero:
            return
        groups = self.shown(rollouts, trainer.global_step)
        with self.path.open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps(group, ensure_ascii=True) + "\n" for group in groups)
        rows = [row for group in groups for row in _table_rows(group)]
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("rollout/groups", columns=_COLUMNS, data=rows)

    def shown(self, rollouts: Rollouts, step: int) -> list[dict[str, Any]]:
        """The groups of a batch that are worth a look."""
        hits = rollouts.hits.any(dim=1)
        spread = rollouts.rewards.amax(dim=1) - rollouts.rewards.amin(dim=1)
        order = (spread + 1e6 * hits).argsort(descending=True, stable=True).tolist()
        without = [prompt for prompt in order if not bool(hits[prompt])]
        prompts = list(dict.fromkeys([*order[:1], *without[:1], *order[1:]]))
        return [self._group(rollouts, prompt, step) for prompt in prompts[:_GROUPS]]

    def _group(self, rollouts: Rollouts, prompt: int, step: int) -> dict[str, Any]:
        items = rollouts.items[prompt].tolist()
        rolled = []
        for place in sorted(range(len(items)), key=lambda place: (int(rollouts.ranks[prompt, place]), place)):
            if not bool(rollouts.first[prompt, place]):
                continue
            rolled.append(
                {
                    **self._item(items[place]),
                    "times": items.count(items[place]),
                    "hit": bool(rollouts.hits[prompt, place]),
                    "reward": round(float(rollouts.rewards[prompt, place]), 4),
                    "advantage": round(float(rollouts.advantages[prompt, place]), 4),
                    "terms": {name: round(float(term[prompt, place]), 4) for name, term in rollouts.terms.items()},
                }
            )
        history = [self._item(row) for row in rollouts.histories[prompt].tolist()[-_HISTORY:] if row >= 0]
        return {
            "step": step,
            "history": history,
            "target": self._item(int(rollouts.targets[prompt])),
            "rollouts": rolled,
        }

    def _item(self, row: int) -> dict[str, str | None]:
        if row < 0:
            return {"item": None, "title": None, "interests": None}
        return {"item": self.item_ids[row], "title": self.titles[row], "interests": self.interests[row]}


def _table_rows(group: dict[str, Any]) -> list[list[Any]]:
    """A group as rows of a table, one per rolled-out item."""
    history, target = " → ".join(map(_name, group["history"])), group["target"]
    common = [group["step"], history, _name(target), target["interests"]]
    return [
        [*common, _name(each), *(each[key] for key in _OF_ROLLOUT), json.dumps(each["terms"]), each["interests"]]
        for each in group["rollouts"]
    ]


def _name(item: dict[str, Any]) -> str:
    return str(item["title"] or item["item"] or "no item")


_LEAST_LINES = 10


class Bar(RichProgressBar):
    """Lightning's bar with the loss and the metric that chooses, without the logger's version."""

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class EncodingBar(Bar):
    """The bar of an encoding."""

    @classmethod
    def wanted(cls) -> list[Callback]:
        """The bar, where bars are wanted."""
        return [cls()] if progress_enabled() else []


class LogOften(Callback):
    """Logs a training of few steps more often than ``trainer.log_every_n_steps``: it leaves ten lines, not none."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Looks at how many batches there will be."""
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
        steps = trainer.num_training_batches * epochs / trainer.accumulate_grad_batches
        if trainer.max_steps > 0:
            a_batch = getattr(pl_module, "updates_per_rollout", 1) * getattr(pl_module, "minibatches", 1)
            steps = min(steps, math.ceil(trainer.max_steps / a_batch))
        if math.isfinite(steps):
            # a connector of Lightning's sets the attribute, so that its class does not declare it
            every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
            trainer.log_every_n_steps = max(1, min(every, int(steps) // _LEAST_LINES))  # type: ignore[attr-defined]


class VectorWriter(BasePredictionWriter):
    """Writes the ``(keys, vectors)`` that ``predict_step`` gives, a shard at a time, on every rank.

    Args:
        cache: takes the shards.
        shard_items: vectors per shard, which is what a kill loses at most.
    """

    def __init__(self, cache: VectorCache, shard_items: int = 2048) -> None:
        super().__init__(write_interval="batch")
        self.cache = cache
        self.shard_items = shard_items
        self._keys: list[np.ndarray] = []
        self._vectors: list[torch.Tensor] = []

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: tuple[np.ndarray, torch.Tensor],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keeps a batch's vectors, and writes once there are enough."""
        self._keys.append(prediction[0])
        self._vectors.append(prediction[1].float().cpu())
        if sum(map(len, self._keys)) >= self.shard_items:
            self._flush()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the rest."""
        self._flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Nothing encoded is lost to a Ctrl-C."""
        self._flush()

    def _flush(self) -> None:
        if self._keys:
            self.cache.add(np.concatenate(self._keys), torch.cat(self._vectors))
        self._keys, self._vectors = [], []
