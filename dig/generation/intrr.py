"""IntRR (arXiv 2602.20704): a causal transformer over one vector per item, codes spelled inside one small network.

The network is the Recursive-Assignment Network: one code after the other, out of guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dig.config.documents import read_json_mapping
from dig.config.errors import UserError
from dig.config.sections.backbone import AssignmentConfig
from dig.engine.artifacts import write_json
from dig.engine.catalogue import STAMP
from dig.generation.causal_layer import CausalLayer, by_length
from dig.generation.trie import CatalogueTrie
from dig.generation.vocabulary import SidVocabulary
from dig.received.weights import TensorHeader, load_module, read_section

__all__ = ["Assigned", "IntRR", "IntRRSizes", "RecursiveAssignment", "intrr_vocabulary", "is_intrr"]

_SPREAD = 0.02
"""Standard deviation of what starts at random."""
_WEIGHTS, _CONFIG, _KIND = "model.safetensors", "config.json", "intrr"


@dataclass(frozen=True)
class IntRRSizes:
    """What decides the shape of an IntRR and how it scores.

    Attributes:
        codes: codes per level, the suffix level included if there is one.
        hidden_size: width.
        layers: of the transformer.
        heads: of its attention.
        inner_size: width of its feed-forward layers.
        max_history: latest items that it reads.
        dropout: of the transformer.
        uid_size: width of the items' own embeddings.
        assignment_size: width of the hidden layers of the Recursive-Assignment Network.
        condition: what a level is told of the codes before it: the ``previous`` or the ``sum``.
        residual: whether the network's steps are added to the guidance.
        scale: of cosines; None takes inner products.
        uid_input: whether an item's vector is its codes' and its own embedding's.
        uid_output: whether a code's score has a term for the items that it leads to.
        softmax: what a code competes with: its siblings in the ``trie``, or all codes of its ``level``.
        tasks: tasks beside the next item, each with a vector that stands before what it asks about.
    """

    codes: list[int]
    hidden_size: int
    layers: int
    heads: int
    inner_size: int
    max_history: int
    dropout: float = 0.0
    uid_size: int = 512
    assignment_size: int = 512
    condition: str = "previous"
    residual: bool = False
    scale: float | None = None
    uid_input: bool = False
    uid_output: bool = False
    softmax: str = "level"
    tasks: int = 0

    @classmethod
    def of(cls, codes: Sequence[int], settings: AssignmentConfig, **shape: Any) -> IntRRSizes:
        """Sizes for codes per level: the network's from the configuration, the transformer's from ``shape``."""
        return cls(
            codes=list(codes),
            uid_size=settings.uid_size,
            assignment_size=settings.inner_size,
            condition=settings.condition,
            residual=settings.residual,
            scale=settings.scale,
            uid_input=settings.uid_input,
            uid_output=settings.uid_output,
            softmax=settings.softmax,
            **shape,
        )


class IntRR(nn.Module):
    """Predicts the next item's codes from histories of items.

    Args:
        codes: (items, levels) the Semantic IDs that items begin with, -1 for a missing suffix.
        sizes: the shape.

    Attributes:
        remembered: (items, width) their vectors, between :meth:`remember` and the next training; else None.
        tables: what is computed of a trie meanwhile, by trie, depth and device.
    """

    codes: Tensor
    remembered: Tensor | None

    def __init__(self, codes: Tensor, sizes: IntRRSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.hidden_size
        self.register_buffer("codes", codes.clone())
        self.uids = nn.Embedding(len(codes), sizes.uid_size)
        self.project = nn.Linear(sizes.uid_size, width)
        self.assign = RecursiveAssignment(
            sizes.codes, width, sizes.assignment_size, sizes.condition, sizes.residual, sizes.scale
        )
        self.positions = nn.Embedding(sizes.max_history, width)
        nn.init.normal_(self.uids.weight, std=_SPREAD)
        nn.init.normal_(self.positions.weight, std=_SPREAD)
        if sizes.tasks:
            self.tasks = nn.Embedding(sizes.tasks, width)
            nn.init.normal_(self.tasks.weight, std=_SPREAD)
        self.layers = nn.ModuleList(
            CausalLayer(width, sizes.heads, sizes.inner_size, sizes.dropout, frugal=True) for _ in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(sizes.dropout)
        self.register_buffer("remembered", None, persistent=False)
        self.tables: dict[tuple[CatalogueTrie, int, torch.device], Tensor] = {}

    def guidance(self, items: Tensor) -> Tensor:
        """(…, width) what is known of items (…) by their own embeddings."""
        guidance: Tensor = self.project(self.uids(items))
        return guidance

    def assigned(self, items: Tensor) -> Assigned:
        """The codes that the input side gives items (n,), and their vectors."""
        guidance = self.guidance(items)
        assigned: Assigned = self.assign(guidance, self.codes[items] >= 0)
        if self.sizes.uid_input:
            assigned.vectors = assigned.vectors + guidance
        return assigned

    def states(self, histories: Tensor) -> tuple[Tensor, Assigned | None]:
        """States after every item, histories one after the other, and how the items in them were assigned.

        Args:
            histories: (batch, length) rows, -1 where there is none, before or behind the items; at most
                ``max_history`` items each. A row behind the catalogue's is a task.

        Returns:
            (items of all histories, width), and the assignment of the distinct items, in their order, None where
            vectors are remembered.
        """
        filled = histories >= 0
        rows = histories[filled]
        if self.remembered is not None:
            return self._run(self.remembered[rows], filled), None
        distinct, inverse = rows.unique(return_inverse=True)
        is_item = distinct < len(self.codes)
        assigned = self.assigned(distinct[is_item])
        vectors = assigned.vectors
        if self.sizes.tasks:
            vectors = torch.cat([vectors, self.tasks(distinct[~is_item] - len(self.codes)).to(vectors.dtype)])
        return self._run(vectors[inverse], filled), assigned

    def _run(self, vectors: Tensor, filled: Tensor) -> Tensor:
        lengths = filled.sum(dim=1)
        from_left = torch.arange(filled.shape[1], device=filled.device) < lengths.unsqueeze(1)
        order, slots = by_length(lengths)
        states = self.dropout((vectors + self.positions(from_left.nonzero()[:, 1]))[order])
        for layer in self.layers:
            states = layer(states, slots)
        normalised: Tensor = self.norm(states)[order.argsort()]
        return normalised

    def last_states(self, histories: Tensor) -> Tensor:
        """(batch, width) after histories (batch, length); 0 after none."""
        states, _ = self.states(histories)
        lengths = (histories >= 0).sum(dim=1)
        last = (lengths.cumsum(dim=0) - 1).clamp(min=0)
        latest = states[last] if len(states) else states.new_zeros(len(histories), self.sizes.hidden_size)
        return latest * (lengths > 0).unsqueeze(1)

    @torch.no_grad()
    def remember(self) -> None:
        """Computes all items' vectors once, for as long as nothing is trained; puts the model in evaluation mode."""
        self.eval()
        self.forget()
        self.remembered = self.assigned(torch.arange(len(self.codes), device=self.codes.device)).vectors

    def forget(self) -> None:
        """Ends such a time."""
        self.remembered = None
        self.tables.clear()

    def train(self, mode: bool = True) -> IntRR:
        """As of any module; weights are going to change, so nothing is remembered any more."""
        self.forget()
        super().train(mode)
        return self

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes weights and sizes; ``metadata`` goes into the weights, the stamp of the catalogue, say."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: tensor.to("cpu", torch.float32 if tensor.is_floating_point() else None).contiguous()
            for name, tensor in self.state_dict().items()
        }
        save_file(weights, folder / _WEIGHTS, metadata)
        write_json(folder / _CONFIG, {"model_type": _KIND, **asdict(self.sizes)})

    @classmethod
    def load(cls, folder: Path) -> IntRR:
        """Reads what :meth:`save` wrote, for evaluation.

        Raises:
            UserError: a file is missing or damaged, or the weights are not those of the configuration.
        """
        sizes = read_section(folder / _CONFIG, IntRRSizes, ignored=("model_type", STAMP))

        def make(header: dict[str, TensorHeader]) -> IntRR:
            return cls(torch.zeros(header["codes"].shape, dtype=torch.int64), sizes)

        model = load_module(folder / _WEIGHTS, make, sizes.layers)
        if model.codes.ndim != 2 or model.codes.shape[1] != len(sizes.codes):
            raise UserError(f"{folder}: its codes are not those of {len(sizes.codes)} levels")
        if bool(((model.codes < -1) | (model.codes >= torch.tensor(sizes.codes))).any()):
            raise UserError(f"{folder}: a code of an item lies outside the {sizes.codes} of its levels")
        return model


def is_intrr(folder: Path) -> bool:
    """Whether a model's folder holds an IntRR."""
    return (folder / _CONFIG).is_file() and read_json_mapping(folder / _CONFIG).get("model_type") == _KIND


def intrr_vocabulary(sizes: Sequence[int]) -> SidVocabulary:
    """The tokens of the codes: those of all levels are one vocabulary, level after level."""
    return SidVocabulary(tuple(sizes), tuple(sum(sizes[:level]) for level in range(len(sizes))))


class Assigned:
    """What the network makes of guidance.

    Attributes:
        vectors: (rows, width) sums of the chosen codes' vectors.
        log_probs: (rows, codes) of each level.
        codes: (rows, levels) int64, the chosen ones.
    """

    def __init__(self, vectors: Tensor, log_probs: list[Tensor], codes: Tensor) -> None:
        self.vectors, self.log_probs, self.codes = vectors, log_probs, codes


class RecursiveAssignment(nn.Module):
    """Chooses a code per level: ``h_1 = g``, ``h_{l+1} = f_l([z_l; g])``, ``logits_l = h_l · C_lᵀ``.

    The same weights serve the input side, where ``g`` is what is known of an item, and the output side, where it is
    the state after a history.

    Args:
        sizes: codes per level.
        width: of guidance, states and codes.
        inner: width of the hidden layer of each ``f_l``.
        condition: what ``f_l`` reads of the codes so far: the ``previous`` one (the paper's) or the ``sum`` of all.
        residual: whether ``f_l`` is added to the guidance instead of replacing it.
        scale: logits are this many times the cosine of state and code; None takes the inner product, as the paper does.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        width: int,
        inner: int = 512,
        condition: str = "previous",
        residual: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.condition, self.residual, self.scale = condition, residual, scale
        self.codebooks = nn.ParameterList(nn.Parameter(_SPREAD * torch.randn(size, width)) for size in sizes)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width, inner), nn.GELU(), nn.Linear(inner, width)) for _ in sizes[1:]
        )

    def conditioned(self, before: Tensor | None, codes: Tensor) -> Tensor:
        """What the next step reads of the codes so far (…, width).

        Args:
            before: the same after one code fewer, None at the first.
            codes: (…, width) vectors of the latest codes.
        """
        return codes if before is None or self.condition == "previous" else before + codes

    def step(self, level: int, condition: Tensor, guidance: Tensor) -> Tensor:
        """States (…, width) from which a level from 1 on is chosen (level 0 is chosen from the guidance itself).

        The hidden layer, several times as wide as a state, is computed again in the backward pass and not kept.
        """
        step = self.steps[level - 1]

        def run(condition: Tensor, guidance: Tensor) -> Tensor:
            states: Tensor = step(torch.cat([condition, guidance], dim=-1))
            return states

        if torch.is_grad_enabled():
            states: Tensor = checkpoint(run, condition, guidance, use_reentrant=False, preserve_rng_state=False)
        else:
            states = run(condition, guidance)
        return states + guidance if self.residual else states

    def codebook(self, level: int) -> Tensor:
        """(codes, width) what states of a level are multiplied with."""
        return self.scaled(self.codebooks[level])

    def scaled(self, table: Tensor) -> Tensor:
        """Rows as long as the scale, where there is one."""
        return table if self.scale is None else self.scale * F.normalize(table, dim=-1)

    def directed(self, states: Tensor) -> Tensor:
        """States of length 1, where there is a scale."""
        return states if self.scale is None else F.normalize(states.to(self.codebooks[0].dtype), dim=-1)

    def logits(self, level: int, states: Tensor) -> Tensor:
        """(…, codes) of states (…, width)."""
        return F.linear(self.directed(states), self.codebook(level))

    def forward(self, guidance: Tensor, mask: Tensor | None = None) -> Assigned:
        """Assigns codes by straight-through choices: forward the code of the largest logit, backward the soft mixture.

        Args:
            guidance: (rows, width).
            mask: (rows, levels) False at levels that a row does not have, such as the suffix of an item that shares
                its codes with none; None has all.
        """
        total, condition = torch.zeros_like(guidance), None
        log_probs, codes = [], []
        for level, codebook in enumerate(self.codebooks):
            states = guidance if condition is None else self.step(level, condition, guidance)
            log_probs.append(self.logits(level, states).log_softmax(dim=-1))
            codes.append(log_probs[-1].argmax(dim=-1))
            chosen = straight_through(log_probs[-1], codebook, codes[-1])
            condition = self.conditioned(condition, chosen)
            total = total + (chosen if mask is None else chosen * mask[:, level : level + 1])
        return Assigned(total, log_probs, torch.stack(codes, dim=-1))


def straight_through(log_probs: Tensor, codebook: Tensor, codes: Tensor) -> Tensor:
    """Vectors (rows, width) of codes (rows,), with the gradient of the mixture of the codebook by their probabilities.

    Args:
        log_probs: (rows, codes).
        codebook: (codes, width).
        codes: (rows,) what is chosen.
    """

    def mixed(log_probs: Tensor, codebook: Tensor) -> Tensor:
        return log_probs.exp().to(codebook.dtype) @ codebook

    if not torch.is_grad_enabled():
        return codebook[codes]
    # probabilities follow from what is kept anyway
    soft = checkpoint(mixed, log_probs, codebook, use_reentrant=False, preserve_rng_state=False)
    return codebook[codes].detach() + (soft - soft.detach())
