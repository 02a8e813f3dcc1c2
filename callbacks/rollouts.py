"""What watches GRPO's rollouts: warnings when learning has stalled, and sample groups for people to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

from dig.engine.console import warn
from dig.rollouts.record import Rollouts

__all__ = ["RolloutHealth", "RolloutSamples"]

_WARNINGS = {
    "rollout/dead_groups": "{value:.0%} of the groups had equal rewards in the last {count} batches, so almost nothing "
    "is learned; raise grpo.group_size, grpo.temperature, grpo.dynamic_sampling or a graded reward "
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
        self.limits = {"rollout/dead_groups": dead_share, "train/kl": max_kl}
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
        rows = [row for group in groups for row in _rows(group)]
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


def _rows(group: dict[str, Any]) -> list[list[Any]]:
    """A group as rows of a table, one per rolled-out item."""
    history, target = " → ".join(map(_name, group["history"])), group["target"]
    common = [group["step"], history, _name(target), target["interests"]]
    return [
        [*common, _name(each), *(each[key] for key in _OF_ROLLOUT), json.dumps(each["terms"]), each["interests"]]
        for each in group["rollouts"]
    ]


def _name(item: dict[str, Any]) -> str:
    return str(item["title"] or item["item"] or "no item")
