"""Sample groups in words: what somebody bought, what was rolled out, what it earned, and the interests behind it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

__all__ = ["GroupStories"]

_COLUMNS = ["step", "history", "target", "its interests", "rolled out", "times", "hit", "reward", "advantage", "terms",
            "interests behind"]  # fmt: skip
_STORIES = 2  # groups a time
_HISTORY = 10  # latest items of a history


class GroupStories(Callback):
    """Writes some groups of the first rollout batch and of every ``every``-th, a JSON line each, and a W&B table.

    Of a batch the groups with the most different rewards are told, one that holds the target first.

    Args:
        path: the file; a resumed run goes on behind what stands there.
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
        """Tells, when it is time."""
        if batch_idx % self.every or not trainer.is_global_zero:
            return
        stories = self.told(getattr(pl_module, "judged", None), trainer.global_step)
        if not stories:
            return
        with self.path.open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps(story, ensure_ascii=True) + "\n" for story in stories)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("rollout/groups", columns=_COLUMNS, data=[row for s in stories for row in _rows(s)])

    def told(self, judged: Any, step: int) -> list[dict[str, Any]]:
        """The chosen groups of a module's judged rollouts."""
        if judged is None:
            return []
        groups, reward = judged.groups, judged.reward
        spread = reward.total.amax(dim=1) - reward.total.amin(dim=1)
        order = (spread + 1e6 * groups.hits.any(dim=1)).argsort(descending=True, stable=True).tolist()
        without = [prompt for prompt in order if not bool(groups.hits[prompt].any())]
        chosen = dict.fromkeys([*order[:1], *without[:1], *order[1:]])
        return [self._story(judged, prompt, step) for prompt in list(chosen)[:_STORIES]]

    def _story(self, judged: Any, prompt: int, step: int) -> dict[str, Any]:
        groups, reward = judged.groups, judged.reward
        items = groups.items[prompt].tolist()
        rollouts = []
        for place in sorted(range(len(items)), key=lambda place: (int(groups.ranks[prompt, place]), place)):
            if not bool(groups.first[prompt, place]):
                continue
            rollouts.append(
                {
                    **self._item(items[place]),
                    "times": items.count(items[place]),
                    "hit": bool(groups.hits[prompt, place]),
                    "reward": round(float(reward.total[prompt, place]), 4),
                    "advantage": round(float(judged.advantages[prompt, place]), 4),
                    "terms": {name: round(float(term[prompt, place]), 4) for name, term in reward.terms.items()},
                }
            )
        history = [self._item(row) for row in groups.histories[prompt].tolist()[-_HISTORY:] if row >= 0]
        return {"step": step, "history": history, "target": self._item(int(groups.targets[prompt])),
                "rollouts": rollouts}  # fmt: skip

    def _item(self, row: int) -> dict[str, str | None]:
        if row < 0:
            return {"item": None, "title": None, "interests": None}
        return {"item": self.item_ids[row], "title": self.titles[row], "interests": self.interests[row]}


def _rows(story: dict[str, Any]) -> list[list[Any]]:
    """A story as lines of a table, a rolled-out item each."""
    name = lambda item: item["title"] or item["item"] or "no item"  # noqa: E731
    history, target = " → ".join(map(name, story["history"])), story["target"]
    return [
        [story["step"], history, name(target), target["interests"], name(each), each["times"], each["hit"],
         each["reward"], each["advantage"], json.dumps(each["terms"]), each["interests"]]
        for each in story["rollouts"]
    ]  # fmt: skip
