"""The stages, one file each: what each reads and writes and which room it calls."""

from dig.stages import adapt, embed, grpo, label, mine, pictures, prepare, sequential, sft, tokenize
from dig.stages.base import Stage, StageContext, global_rank

__all__ = ["BUILT", "Stage", "StageContext", "global_rank"]

BUILT: dict[str, Stage] = {
    module.STAGE.name: module.STAGE
    for module in (prepare, adapt, pictures, mine, label, embed, tokenize, sft, sequential, grpo)
}
"""Stages that leave an artifact, in order; ``report`` comes after them and writes the run."""
