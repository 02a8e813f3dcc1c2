"""From a stage's model folder to what ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from datamodules.item_answers import HistoryTokens
from datamodules.item_prompts import ItemPrompts
from dig.baselines.eimf import EIMF
from dig.baselines.intrr import IntRRRanker
from dig.baselines.item_knn import ItemKNN
from dig.baselines.popularity import Popularity
from dig.baselines.sasrec import SASRec
from dig.baselines.tiger import PAD, Tiger, load_t5, sid_vocabulary
from dig.config import Config
from dig.config.schema import PromptConfig
from dig.evaluation.rankers import Ranker
from dig.generation.intrr import IntRR
from dig.generation.view_check import check_intrr
from dig.quantization import SemanticIds
from dig.recommender.policy import PolicyRanker

__all__ = ["load_ranker"]


def _tiger(folder: Path, config: Config, device: Any) -> Ranker:
    ids = SemanticIds.load(folder / "semantic_ids.parquet")
    tokens = HistoryTokens(sid_vocabulary(ids.sizes).encode(ids.codes), config.tiger.max_history, PAD)
    return Tiger(load_t5(folder), tokens, config.evaluation.num_beams, config.evaluation.batch_size, device)


def _intrr(folder: Path, config: Config, device: Any) -> Ranker:
    model = IntRR.load(folder)
    check_intrr(model, str(folder))
    builder = ItemPrompts(len(model.codes), PromptConfig(max_history=model.sizes.max_history))
    return IntRRRanker(model, builder, config.evaluation.num_beams, config.evaluation.batch_size, device)


Loader = Callable[[Path, Config, Any], Ranker]
_LOADERS: dict[str, Loader] = {
    "popularity": lambda folder, config, device: Popularity.load(folder),
    "item_knn": lambda folder, config, device: ItemKNN.load(folder),
    "sasrec": lambda folder, config, device: SASRec.load(folder).to(device or "cpu"),
    "tiger": _tiger,
    "eimf": lambda folder, config, device: EIMF.load(folder).to(device or "cpu"),
    "intrr": _intrr,
    "sft": PolicyRanker.load,
    "grpo": PolicyRanker.load,
}


def load_ranker(stage: str, folder: Path, config: Config, device: torch.device | str | None = None) -> Ranker:
    """The recommender that a stage has trained.

    Args:
        stage: its name, a baseline or a policy.
        folder: its model folder.
        config: of the run.
        device: where to compute; None takes a GPU for a policy if there is one.
    """
    return _LOADERS[stage](folder, config, device)
