"""The finished generative recommender: what a run leaves behind, ready to answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.prompts import PromptBuilder
from dig.config import UserError, load_config, nearest
from dig.config.schema import PromptConfig
from dig.generation import CatalogueTrie, beam_search
from dig.generation.backbone import Backbone, load_backbone
from dig.generation.decoder import Decoder
from dig.generation.spelling import spelled_ids
from dig.interests.profiles import InterestProfiles, Reason, WeightedInterest
from dig.quantization import SemanticIds

__all__ = ["Recommender"]

_TRAINED_STAGES = ("grpo", "sft")  # the last trained first


class Recommender:
    """Ranks items after a history by constrained beam search.

    Args:
        backbone: model and tokenizer.
        ids: the Semantic ID table as the backbone spells it.
        prompt: style and longest history.
        num_beams: beams; a request for more items widens the search.
        batch_size: histories a batch.
        device: where to compute; None takes a GPU if there is one.
        interests: labelled interests, which explain recommendations; None explains none.
    """

    def __init__(
        self,
        backbone: Backbone,
        ids: SemanticIds,
        prompt: PromptConfig,
        num_beams: int = 20,
        batch_size: int = 256,
        device: torch.device | str | None = None,
        interests: pl.DataFrame | None = None,
    ) -> None:
        self.profiles = None if interests is None else InterestProfiles(interests)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.item_ids = ids.item_ids
        self.num_beams = num_beams
        self.batch_size = batch_size
        tokens = backbone.vocabulary.encode(ids.codes)
        context = Decoder(backbone.model).context
        self.builder = PromptBuilder(tokens, backbone.tokenizer, prompt, backbone.from_scratch, context)
        self.trie = CatalogueTrie(tokens, twins=True).to(self.device)
        self.model = backbone.model.to(self.device).eval()
        self._rows = {item_id: row for row, item_id in enumerate(ids.item_ids)}

    @classmethod
    def from_run(
        cls, path: str | Path, stage: str | None = None, device: torch.device | str | None = None
    ) -> Recommender:
        """Loads the last trained stage of a run, or a named one.

        Raises:
            UserError: if the folder is no run, or the stage was not trained in it.
        """
        run = Path(path)
        if not (run / "config.yaml").is_file():
            raise UserError(f"{run} is no run: it has no config.yaml")
        config = load_config(run / "config.yaml")
        stages = (stage,) if stage else _TRAINED_STAGES
        folder = next((run / "checkpoints" / name for name in stages if (run / "checkpoints" / name).is_dir()), None)
        if folder is None:
            raise UserError(f"{run} holds no trained stage {' or '.join(stages)}")
        ids = SemanticIds.load(run / "semantic_ids.parquet")
        ids = spelled_ids(ids, config.prompt, from_scratch=config.backbone.pretrained is None)
        backbone = load_backbone(folder, ids.sizes)
        interests = pl.read_parquet(run / "interests.parquet")
        return cls(backbone, ids, config.prompt, config.evaluation.num_beams, config.evaluation.batch_size, device,
                   interests)  # fmt: skip

    def recommend(self, histories: Sequence[Sequence[str]], k: int = 10) -> tuple[list[list[str]], Tensor]:
        """The next items after each history.

        Args:
            histories: item ids of each customer, oldest first.
            k: items to recommend.

        Returns:
            Item ids (batch, up to k), best first, and their log-probabilities (batch, k), -inf beyond the catalogue.

        Raises:
            UserError: for an item that the catalogue lacks, with the nearest id, or an empty history.
        """
        items, scores = self.rank([self._known_rows(history) for history in histories], k)
        return [[self.item_ids[row] for row in ranked if row >= 0] for ranked in items.tolist()], scores

    def interests(self, history: Sequence[str], limit: int = 8) -> list[WeightedInterest]:
        """What a history says its customer is after: good interests with their shares, the strongest first.

        Raises:
            UserError: as :meth:`recommend`, or there are no interests to tell by.
        """
        self._known_rows(history)
        return self._profiles().interests(history, limit)

    def explain(self, history: Sequence[str], items: Sequence[str], limit: int = 3) -> list[list[Reason]]:
        """Why each item may suit the customer: the good interests that it shares with what they bought.

        It tells what history and item have in common, not what moved the model; an item that shares no interest has no
        reason.

        Args:
            history: item ids, oldest first.
            items: recommended items.
            limit: reasons an item at most.

        Raises:
            UserError: as :meth:`interests`.
        """
        self._known_rows([*history, *items])
        return [self._profiles().reasons(history, item, limit) for item in items]

    def _profiles(self) -> InterestProfiles:
        if self.profiles is None:
            raise UserError("this recommender was made without interests; give it a run's interests.parquet")
        return self.profiles

    def rank(self, histories: Sequence[np.ndarray], k: int) -> tuple[Tensor, Tensor]:
        """The same on catalogue rows: items (batch, k), -1 beyond the catalogue, and scores, on the CPU."""
        return self._rank(histories, k, unseen=False)

    def rank_unseen(self, histories: Sequence[np.ndarray], k: int) -> tuple[Tensor, Tensor]:
        """The same without the items of each history; the others' probabilities are renormalised."""
        return self._rank(histories, k, unseen=True)

    @torch.inference_mode()
    def _rank(self, histories: Sequence[np.ndarray], k: int, unseen: bool) -> tuple[Tensor, Tensor]:
        items, scores = [], []
        beams = min(max(self.num_beams, k), self.trie.num_items)
        for start in range(0, len(histories), self.batch_size):
            batch = histories[start : start + self.batch_size]
            prompts = self.builder.prompts(batch)
            found = beam_search(
                self.model,
                prompts.input_ids.to(self.device),
                prompts.attention_mask.to(self.device),
                self.trie,
                beams,
                restriction=self.trie.without(_rows(batch).to(self.device)) if unseen else None,
            )
            items.append(F.pad(found.items, (0, max(0, k - beams)), value=-1)[:, :k].cpu())
            scores.append(F.pad(found.log_probs, (0, max(0, k - beams)), value=float("-inf"))[:, :k].cpu())
        return torch.cat(items), torch.cat(scores)

    def _known_rows(self, history: Sequence[str]) -> np.ndarray:
        if not history:
            raise UserError("a history is empty; there is nothing to recommend from")
        unknown = [item for item in history if item not in self._rows]
        if unknown:
            hint = nearest(unknown[0], self._rows)
            raise UserError(f"the catalogue has no item {unknown[0]!r}{f'; did you mean {hint}?' if hint else ''}")
        return np.array([self._rows[item] for item in history], dtype=np.int64)


def _rows(histories: Sequence[np.ndarray]) -> Tensor:
    """Catalogue rows (batch, longest), -1 after the end."""
    rows = torch.full((len(histories), max(len(history) for history in histories)), -1)
    for row, history in enumerate(histories):
        rows[row, : len(history)] = torch.from_numpy(np.asarray(history, dtype=np.int64))
    return rows
