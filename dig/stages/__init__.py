"""The stages, one file each: what each reads and writes and which package it calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module

from dig.config import RECOMMENDERS
from dig.config.recommenders import STAGES_BEFORE
from dig.engine.stage import Stage, StageContext, global_rank

__all__ = ["BUILT", "Stage", "StageContext", "global_rank"]


class _Stages(Mapping[str, Stage]):
    """Stages by name, imported when they are first asked for: nobody pays for a recommender that is not in the run."""

    _names = (*STAGES_BEFORE, *RECOMMENDERS)

    def __getitem__(self, name: str) -> Stage:
        if name not in self._names:
            raise KeyError(name)
        return _stage(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._names)

    def __len__(self) -> int:
        return len(self._names)


@cache
def _stage(name: str) -> Stage:
    if name in RECOMMENDERS and RECOMMENDERS[name].baseline:
        stage: Stage = import_module("dig.recommenders.training").recommender_stage(RECOMMENDERS[name])
    else:
        stage = import_module(f"dig.stages.{name}").STAGE
    return stage


BUILT = _Stages()
"""Stages that leave an artifact, in order; ``report`` comes after them and writes the run."""
