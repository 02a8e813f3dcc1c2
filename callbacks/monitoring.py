"""What a training shows: throughput, a bar or lines, rollout diagnostics, vectors, validation for somebody outside."""

from __future__ import annotations

import json
import math
import threading
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
from dig.engine.console import lines_wanted, progress_enabled, say, shown_rate, shown_seconds, warn
from dig.rollouts.record import Rollouts

__all__ = [
    "Throughput",
    "StoppedEarly",
    "ValidationReports",
    "RolloutHealth",
    "RolloutSamples",
    "Bar",
    "LogOften",
    "ProgressLines",
    "VectorWriter",
    "progress_bar",
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


class ProgressLines(Callback):
    """Tells how far a Trainer is where no bar can be drawn: a line at the first step, then one a minute.

    A thread says them, as a batch of a language model can take longer than that.

    Args:
        title: what is under way, such as `sft`.
        throughput: measures the samples per second of a training.
        every: seconds between two lines.
    """

    def __init__(self, title: str, throughput: Throughput | None = None, every: float = 60.0) -> None:
        self.title = title
        self.throughput = throughput
        self.every = every
        self._trainer: Trainer | None = None
        self._begun = self._said = 0.0
        self._first_step = 0
        self._batches = 0
        self._ended: threading.Event | None = None
        self._loss: torch.Tensor | None = None  # kept here, as Lightning's own record is not for other threads to read

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins to watch the clock."""
        self._stop()
        if not trainer.is_global_zero:
            return
        self._trainer, self._batches = trainer, 0
        self._begun = self._said = time.monotonic()
        self._ended = threading.Event()
        threading.Thread(target=self._watch, args=(self._ended,), name="progress", daemon=True).start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts time and steps from here."""
        self._begun, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tells of the first step."""
        self._batches += 1
        self._loss = trainer.callback_metrics.get("train/loss")
        if self._batches == 1 and self._ended is not None:
            self.say()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Counts, unless training counts its own."""
        self._batches += trainer.state.fn != TrainerFn.FITTING

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Counts."""
        self._batches += 1

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Counts."""
        self._batches += 1

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Says no more."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Says no more."""
        self._stop()

    def say(self) -> None:
        """The line of now."""
        self._said = time.monotonic()
        if self._trainer is not None:
            line = self._training if self._trainer.state.fn == TrainerFn.FITTING else self._batches_done
            say(f"{self.title}: {line(self._trainer)}")

    def _training(self, trainer: Trainer) -> str:
        module = trainer.lightning_module
        total = _planned_batches(trainer, module) * _steps_a_batch(module)
        if math.isfinite(total):
            total = math.ceil(min(total, trainer.max_steps) if trainer.max_steps > 0 else total)
        step, seconds = trainer.global_step, time.monotonic() - self._begun
        parts = [f"step {step:,}" + (f" of {int(total):,}" if math.isfinite(total) else "")]
        if self._loss is not None:
            parts.append(f"loss {float(self._loss):.4g}")
        rate = self.throughput.samples_per_second if self.throughput is not None else None
        if rate:
            parts.append(f"{shown_rate(rate)} samples/s")
        done = step - self._first_step
        if done > 1 and math.isfinite(total):
            parts.append(f"{shown_seconds(max(0.0, (total - step) * seconds / done))} left")
        if trainer.validating or trainer.sanity_checking:
            parts.append("validation is under way")
        return ", ".join(parts)

    def _batches_done(self, trainer: Trainer) -> str:
        counts = {
            TrainerFn.VALIDATING: trainer.num_val_batches,
            TrainerFn.TESTING: trainer.num_test_batches,
            TrainerFn.PREDICTING: trainer.num_predict_batches,
        }.get(trainer.state.fn or TrainerFn.FITTING, [])
        total, seconds = sum(counts), time.monotonic() - self._begun
        what = "validation, " if trainer.state.fn == TrainerFn.VALIDATING else ""
        parts = [f"{what}batch {self._batches:,}" + (f" of {int(total):,}" if math.isfinite(total) and total else "")]
        if self._batches and math.isfinite(total) and total:
            parts.append(f"{shown_seconds((total - self._batches) * seconds / self._batches)} left")
        return ", ".join(parts)

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(min(1.0, self.every)):
            if time.monotonic() - self._said >= self.every:
                self.say()

    def _stop(self) -> None:
        if self._ended is not None:
            self._ended.set()
        self._ended = None


def progress_bar(title: str, throughput: Throughput | None = None) -> list[Callback]:
    """What tells of a Trainer's progress: a bar on a terminal, lines where there is none, nothing if not wanted.

    Args:
        title: what is under way.
        throughput: of a training.
    """
    if progress_enabled():
        return [Bar()]
    return [ProgressLines(title, throughput)] if lines_wanted() else []


def _steps_a_batch(pl_module: LightningModule) -> int:
    return int(getattr(pl_module, "updates_per_rollout", 1) * getattr(pl_module, "minibatches", 1))


def _planned_batches(trainer: Trainer, pl_module: LightningModule) -> float:
    """Batches of a training, those that are summed counted once, unless it is stopped before; infinite if unknown."""
    epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
    batches = trainer.num_training_batches * epochs / trainer.accumulate_grad_batches
    if trainer.max_steps > 0:
        batches = min(batches, math.ceil(trainer.max_steps / _steps_a_batch(pl_module)))
    return batches


class LogOften(Callback):
    """Logs a training of few steps more often than ``trainer.log_every_n_steps``: it leaves ten lines, not none."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Looks at how many batches there will be."""
        steps = _planned_batches(trainer, pl_module)
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
