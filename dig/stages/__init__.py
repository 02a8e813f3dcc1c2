"""The stages, one file each: what each reads and writes and which room it calls."""

from dig.engine.stage import Stage, StageContext, global_rank
from dig.stages import (
    adapt,
    eimf,
    embed,
    grpo,
    intrr,
    item_knn,
    label,
    mine,
    pictures,
    popularity,
    prepare,
    relations,
    sasrec,
    sft,
    tiger,
    tokenize,
)

__all__ = ["BUILT", "Stage", "StageContext", "global_rank"]

BUILT: dict[str, Stage] = {
    module.STAGE.name: module.STAGE
    for module in (
        prepare,
        adapt,
        pictures,
        mine,
        label,
        embed,
        relations,
        tokenize,
        popularity,
        item_knn,
        sasrec,
        tiger,
        eimf,
        intrr,
        sft,
        grpo,
    )
}
"""Stages that leave an artifact, in order; ``report`` comes after them and writes the run."""
