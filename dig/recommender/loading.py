"""From a stage's model folder to what ranks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig.config import RECOMMENDERS, Config, UserError
from dig.config.recommenders import resolve

if TYPE_CHECKING:
    import torch

    from dig.evaluation.rankers import Ranker

__all__ = ["catalogue_size", "load_ranker"]


_SIZES = ("num_items", "trie", "counts", "output_table")
"""What tells how many items a ranker knows."""


def load_ranker(stage: str, folder: Path, config: Config, device: torch.device | str | None = None) -> Ranker:
    """The recommender that a stage has trained.

    Args:
        stage: its name, a baseline or a policy.
        folder: its model folder.
        config: of the run.
        device: where to compute; None takes a GPU for a policy if there is one.

    Raises:
        UserError: a file is missing, damaged, or of another model.
    """
    spec = RECOMMENDERS[stage]
    loader = resolve(spec, "loader") if spec.model is None else resolve(spec, "model")
    try:
        ranker: Ranker = loader(folder, config, device) if spec.model is None else loader.load(folder)
    except UserError:
        raise
    except Exception as error:  # whatever a library says to files that no reader of ours understands
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{folder} cannot be loaded: {reason}") from error
    lacks = "a method rank(histories, k)" if not callable(getattr(ranker, "rank", None)) else ""
    if not any(hasattr(ranker, attribute) for attribute in _SIZES):
        lacks = lacks or "num_items, the size of its catalogue"
    if lacks:
        field = "loader" if spec.model is None else "model"
        raise UserError(f"{spec.wrong}: {field}: expected {lacks}, a {type(ranker).__name__} has none", exit_code=2)
    return ranker


def catalogue_size(ranker: Any) -> int:
    """The number of items that a recommender ranks."""
    if hasattr(ranker, "num_items"):
        return int(ranker.num_items)
    if hasattr(ranker, "trie"):
        return int(ranker.trie.num_rows)
    if hasattr(ranker, "counts"):
        return len(ranker.counts)
    return len(ranker.output_table())
