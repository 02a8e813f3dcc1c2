"""Keys of the configuration that have another name today, and what a run of before says in today's.

Who types an old key is told the new one. The folder of a run is read as if it had been written today.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

__all__ = ["LOGGED", "RENAMED", "modernised", "name_today", "old_keys"]

RENAMED = {
    "trainer.accumulate": "trainer.accumulate_grad_batches",
    "trainer.log_every": "trainer.log_every_n_steps",
    "trainer.workers": "trainer.num_workers",
    "visual.workers": "visual.num_workers",
    "sft.clip_norm": "sft.gradient_clip_val",
    "grpo.clip_norm": "grpo.gradient_clip_val",
    "visual.adapt.warmup_fraction": "visual.adapt.warmup_ratio",
    "sft.warmup_fraction": "sft.warmup_ratio",
    "grpo.warmup_fraction": "grpo.warmup_ratio",
    "sasrec.warmup_fraction": "sasrec.warmup_ratio",
    "intrr.warmup_fraction": "intrr.warmup_ratio",
    "eimf.warmup_fraction": "eimf.warmup_ratio",
    "prompt.codes": "items.codes",
    "rqvae.even_levels": "rqvae.sinkhorn_levels",
    "rqvae.contrast_weight": "rqvae.info_nce_weight",
    "rqvae.contrast_dim": "rqvae.info_nce_dim",
}
"""Keys whose values mean what they meant."""
_WRITTEN = {
    "prompt.item_token": "items.representation=token (for true) or items.representation=sid (for false)",
    "backbone.sid_rows": "items.start (random, codebook), or items.representation=composed",
    "sft.item_tokens": "items.representation (one; for codes: sid, token or composed)",
}
"""Keys that together decided how an item is written, which ``items.representation`` says now."""
LOGGED = {
    "rollout/dead_groups": "rollout/frac_reward_zero_std",
    "rollout/distinct_items": "rollout/unique_fraction",
    "rollout/surprise": "rollout/nll",
    "train/clip_share": "train/clip_ratio",
}
"""Metrics of the logs, for which a sweep may ask."""


def name_today(key: str) -> str | None:
    """What stands for an old key today, to be told; None where the key never was one."""
    return RENAMED.get(key) or _WRITTEN.get(key)


def old_keys() -> list[str]:
    """All keys that have another name today."""
    return [*RENAMED, *_WRITTEN]


def modernised(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run with today's keys; one that has them already comes back equal."""
    today = copy.deepcopy(dict(content))
    old = {key: value for key in _WRITTEN if (value := _taken(today, key)) is not _ABSENT}
    for before, after in RENAMED.items():
        if (value := _taken(today, before)) is not _ABSENT:
            _put(today, after, value)
    if old:
        backbone = today.get("backbone")  # whatever the file says: what is not a section is refused later
        pretrained = isinstance(backbone, dict) and backbone.get("pretrained") is not None
        for key, value in _representation(old, pretrained).items():
            _put(today, key, value)
    return today


def _representation(old: Mapping[str, Any], pretrained: bool) -> dict[str, str]:
    """How items were written. A pretrained backbone spelled codes, whatever was said of items' own tokens."""
    rows, own_token = old.get("backbone.sid_rows", "random"), old.get("prompt.item_token") is True
    start = {"items.start": "codebook"} if rows == "codebook" or (rows == "composed" and pretrained) else {}
    if old.get("sft.item_tokens") == "one":
        return {"items.representation": "one"}
    if pretrained or not own_token:
        return {"items.representation": "sid", **start}
    return {"items.representation": "composed"} if rows == "composed" else {"items.representation": "token", **start}


_ABSENT = object()


def _taken(content: dict[str, Any], key: str) -> Any:
    """The value of a dotted key, which is taken out."""
    *sections, name = key.split(".")
    section: Any = content
    for each in sections:
        section = section.get(each) if isinstance(section, dict) else None
    return section.pop(name, _ABSENT) if isinstance(section, dict) else _ABSENT


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    section = content
    for each in sections:
        if not isinstance(section.get(each), dict):
            section[each] = {}
        section = section[each]
    section.setdefault(name, value)
