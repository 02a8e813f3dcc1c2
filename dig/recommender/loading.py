"""From a stage's model folder to what ranks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig.config import Config, UserError
from dig.config.schema import PromptConfig

if TYPE_CHECKING:
    import torch

    from dig.evaluation.rankers import Ranker

__all__ = ["catalogue_size", "load_ranker"]

# Each recommender imports what it needs itself: some need seconds of imports, and an answer needs one of them.


def _popularity(folder: Path, config: Config, device: Any) -> Ranker:
    from dig.baselines.popularity import Popularity

    return Popularity.load(folder)


def _item_knn(folder: Path, config: Config, device: Any) -> Ranker:
    from dig.baselines.item_knn import ItemKNN

    return ItemKNN.load(folder)


def _sasrec(folder: Path, config: Config, device: Any) -> Ranker:
    from dig.baselines.sasrec import SASRec

    return SASRec.load(folder).to(device or "cpu")


def _eimf(folder: Path, config: Config, device: Any) -> Ranker:
    from dig.baselines.eimf import EIMF

    return EIMF.load(folder).to(device or "cpu")


def _tiger(folder: Path, config: Config, device: Any) -> Ranker:
    from datamodules.item_sequences import HistoryTokens
    from dig.baselines.tiger import PAD, Tiger, load_t5, sid_vocabulary
    from dig.quantization import SemanticIds
    from dig.received.models import check_vocabulary

    ids = SemanticIds.load(folder / "semantic_ids.parquet")
    tokens = HistoryTokens(sid_vocabulary(ids.sizes).encode(ids.codes), config.tiger.max_history, PAD)
    with _quietly():
        model = load_t5(folder)
    check_vocabulary(folder, model, int(tokens.item_tokens.max()))
    return Tiger(model, tokens, config.evaluation.num_beams, config.evaluation.batch_size, device)


def _intrr(folder: Path, config: Config, device: Any) -> Ranker:
    from datamodules.prompts import ItemPrompts
    from dig.baselines.intrr import IntRRRanker
    from dig.generation.factory import check_intrr
    from dig.generation.intrr import IntRR

    model = IntRR.load(folder)
    check_intrr(model, str(folder))
    builder = ItemPrompts(len(model.codes), PromptConfig(max_history=model.sizes.max_history))
    return IntRRRanker(model, builder, config.evaluation.num_beams, config.evaluation.batch_size, device)


def _policy(folder: Path, config: Config, device: Any) -> Ranker:
    from dig.recommender.policy import PolicyRanker

    with _quietly():
        return PolicyRanker.load(folder, config, device)


@contextmanager
def _quietly() -> Generator[None]:
    """Without transformers' bar over the few files of a folder."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


Loader = Callable[[Path, Config, Any], "Ranker"]
_LOADERS: dict[str, Loader] = {
    "popularity": _popularity,
    "item_knn": _item_knn,
    "sasrec": _sasrec,
    "tiger": _tiger,
    "eimf": _eimf,
    "intrr": _intrr,
    "sft": _policy,
    "grpo": _policy,
}


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
    try:
        return _LOADERS[stage](folder, config, device)
    except UserError:
        raise
    except Exception as error:  # whatever a library says to files that no reader of ours understands
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{folder} cannot be loaded: {reason}") from error


def catalogue_size(ranker: Any) -> int:
    """The number of items that a recommender ranks."""
    if hasattr(ranker, "trie"):
        return int(ranker.trie.num_rows)
    if hasattr(ranker, "counts"):
        return len(ranker.counts)
    return len(ranker.output_table())
