"""Modules that have another name today: importing one by its old path is answered by a line with the new one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["MOVED", "answer_old_paths"]

MOVED = {
    "callbacks.stories": "callbacks.monitoring",
    "datamodules.item_prompts": "datamodules.prompts",
    "datamodules.shares": "datamodules.loading",
    "dig.artifacts": "dig.engine.artifacts",
    "dig.catalogue": "dig.engine.catalogue",
    "dig.console": "dig.engine.console",
    "dig.entry": "dig.engine.entry",
    "dig.failures": "dig.engine.failures",
    "dig.folding": "dig.engine.folding",
    "dig.launch": "dig.engine.launch",
    "dig.lazy": "dig.engine.lazy",
    "dig.locks": "dig.engine.locks",
    "dig.machine": "dig.engine.machine",
    "dig.manifest": "dig.engine.manifest",
    "dig.own_files": "dig.engine.own_files",
    "dig.pipeline": "dig.engine.pipeline",
    "dig.proof": "dig.engine.proof",
    "dig.pruning": "dig.engine.pruning",
    "dig.ranks": "dig.engine.ranks",
    "dig.secrets": "dig.engine.secrets",
    "dig.shell_lines": "dig.engine.shell_lines",
    "dig.stopwatch": "dig.engine.manifest",
    "dig.weights": "dig.engine.weights",
    "dig.config.sections.sequential": "dig.config.sections.sasrec",
    "dig.generation.assignment": "dig.generation.intrr",
    "dig.generation.cache": "dig.generation.tree_paths",
    "dig.generation.composed_rows": "dig.generation.sid_rows",
    "dig.generation.decoder": "dig.generation.path_model",
    "dig.generation.encoder_decoder": "dig.generation.t5_paths",
    "dig.generation.finite": "dig.generation.walk",
    "dig.generation.intrr_view": "dig.generation.intrr_paths",
    "dig.generation.ranking": "dig.generation.scoring",
    "dig.generation.restriction": "dig.generation.trie",
    "dig.generation.siblings": "dig.generation.intrr_paths",
    "dig.generation.spelling": "dig.generation.vocabulary",
    "dig.generation.view_check": "dig.generation.factory",
    "dig.modules.intrr_loss": "dig.generation.intrr_paths",
    "dig.modules.sequential": "dig.modules.sasrec",
    "dig.modules.token_loss": "dig.generation.causal_paths",
    "dig.received.documents": "dig.config.documents",
    "dig.rollouts.advantages": "dig.rollouts.objectives",
    "dig.rollouts.rewards.groups": "dig.rollouts.record",
    "dig.rollouts.rewards.interest_aware": "dig.rollouts.rewards",
    "dig.rollouts.rewards.knowledge": "dig.rollouts.rewards",
    "dig.rollouts.rewards.registry": "dig.rollouts.rewards",
    "dig.rollouts.rewards.terms": "dig.rollouts.rewards",
    "dig.rollouts.rewards.total": "dig.rollouts.rewards",
    "dig.rollouts.strategies": "dig.rollouts.record",
    "dig.slurm.signals": "dig.engine.signals",
    "dig.stages.base": "dig.engine.stage",
    "dig.stages.knowledge": "dig.stages.grpo",
    "dig.stages.resuming": "dig.engine.strategy",
    "dig.stages.reward_check": "dig.stages.rewards",
    "dig.stages.reward_needs": "dig.stages.rewards",
    "dig.stages.sequential": "dig.stages.sasrec",
    "dig.stages.strategy": "dig.engine.strategy",
    "dig.stages.training": "dig.engine.training",
    "dig.stages.training_log": "dig.engine.training",
}
"""Old path and new path. A package that moves as a whole needs one line, since its parts are looked for within it; a
package that became a module sets ``__path__ = []``, or Python asks nobody about what was within it."""


class _OldPaths:
    """The last that Python asks for a module: what comes here was found nowhere."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Finds nothing.

        Raises:
            ModuleNotFoundError: the module has another name today, which the message tells.
        """
        if name in MOVED:
            raise ModuleNotFoundError(f"the module {name} is called {MOVED[name]} now", name=name)


def answer_old_paths() -> None:
    """From here on, old paths are answered; what is imported by today's names is not looked at."""
    if _OldPaths not in sys.meta_path:
        sys.meta_path.append(_OldPaths)
