"""Groups told in words: which ones, how often, and what of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch.loggers import WandbLogger

from callbacks.stories import GroupStories
from dig.rollouts import Groups, ItemKnowledge, group_advantages, total_reward

ITEMS = ["a", "b", "c", "d"]
TITLES = ["Pan", "<script>alert(1)</script>", None, "Lid"]
INTERESTS = ["cooking for two", None, "camping", "cooking for two"]


def judged() -> Any:
    """Three groups: all alike, one that holds the target, one without."""
    items = torch.tensor([[1, 1, 1], [3, 0, 3], [2, 1, 0]])
    log_probs = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -2.0, -1.0], [-3.0, -1.0, -2.0]])
    histories = torch.tensor([[-1, 0], [1, 2], [-1, -1]])
    groups = Groups(items, torch.tensor([0, 0, 3]), log_probs, histories)
    codes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    reward = total_reward(groups, ItemKnowledge(codes), {"hit": 1.0, "prefix": 0.5})
    return SimpleNamespace(groups=groups, reward=reward, advantages=group_advantages(reward.total))


def feed(stories: GroupStories, batches: int, rank: int = 0) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=rank == 0, global_step=7, loggers=[])
    module: Any = SimpleNamespace(judged=judged())
    for batch_idx in range(batches):
        stories.on_train_batch_end(trainer, module, None, None, batch_idx)


def test_a_group_with_the_target_and_one_without_are_told(tmp_path: Path):
    path = tmp_path / "groups.jsonl"
    feed(GroupStories(path, ITEMS, TITLES, INTERESTS), 1)
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["step"] == 7
    assert [each["item"] for each in first["history"]] == ["b", "c"]
    assert first["target"] == {"item": "a", "title": "Pan", "interests": "cooking for two"}
    lid, pan = first["rollouts"]  # the surest first, each item once
    assert (lid["item"], lid["times"], lid["hit"], lid["interests"]) == ("d", 2, False, "cooking for two")
    assert (pan["item"], pan["times"], pan["hit"], pan["reward"]) == ("a", 1, True, 1.5)
    assert pan["terms"] == {"hit": 1.0, "prefix": 0.5} and pan["advantage"] > 0 > lid["advantage"]
    assert second["history"] == [] and second["target"]["item"] == "d"
    assert [each["item"] for each in second["rollouts"]] == ["b", "a", "c"]


def test_every_so_many_batches_on_one_rank(tmp_path: Path):
    path = tmp_path / "groups.jsonl"
    feed(GroupStories(path, ITEMS, TITLES, INTERESTS, every=3), 7, rank=1)
    assert not path.exists()
    feed(GroupStories(path, ITEMS, TITLES, INTERESTS, every=3), 7)
    assert len(path.read_text().splitlines()) == 2 * 3
    feed(GroupStories(path, ITEMS, TITLES, INTERESTS, every=3), 1)  # a resumed run goes on behind
    assert len(path.read_text().splitlines()) == 2 * 4


def test_weights_and_biases_gets_a_table_of_plain_words(tmp_path: Path):
    logger = WandbLogger.__new__(WandbLogger)
    tables: list[Any] = []
    logger.log_table = lambda key, columns, data: tables.append((key, columns, data))  # type: ignore[method-assign]
    trainer: Any = SimpleNamespace(is_global_zero=True, global_step=7, loggers=[logger])
    module: Any = SimpleNamespace(judged=judged())
    GroupStories(tmp_path / "groups.jsonl", ITEMS, TITLES, INTERESTS).on_train_batch_end(trainer, module, None, None, 0)
    ((key, columns, rows),) = tables
    assert key == "rollout/groups" and all(len(row) == len(columns) for row in rows) and len(rows) == 2 + 3
    first = dict(zip(columns, rows[0], strict=True))
    assert first["history"] == "<script>alert(1)</script> → c" and first["target"] == "Pan"
    assert (first["rolled out"], first["times"], first["hit"]) == ("Lid", 2, False)
    assert json.loads(first["terms"]) == {"hit": 0.0, "prefix": 0.0}
