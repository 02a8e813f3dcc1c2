"""EIMF: several interests per customer, learned from behaviour and aligned with interests in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from dig.config.recommenders import RecommenderSpec
from dig.config.sections.checks import (
    Bounds,
    Dropout,
    Fraction,
    LearningRate,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Size,
    Temperature,
    WeightDecay,
    check,
    check_values,
)
from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.recommenders.eimf.explicit import KnownUsers
    from dig.recommenders.eimf.model import EIMF
    from dig.recommenders.eimf.module import EIMFModule

__all__ = ["SPEC", "EIMF", "EIMFConfig", "EIMFModule", "KnownUsers"]


@dataclass
class EIMFConfig:
    """EIMF (arXiv 2411.09410): several interests per customer, learned from behaviour and taught by interests in words.

    The paper's formulas and settings are not all public; docs/eimf.md tells what is ours.
    """

    extraction: Literal["self_attentive", "dynamic_routing"] = "self_attentive"
    """How interests are drawn from a history: `self_attentive` (ComiRec-SA, arXiv 2005.09347) or `dynamic_routing`
    (MIND, arXiv 1904.08030, and ComiRec-DR)."""
    interests: Size = 4
    """Interests per customer (K)."""
    routing_iterations: PositiveInt = 3
    """Rounds of dynamic routing."""
    attention_size: Size = 256
    """Hidden width of the self-attentive extraction."""
    readout: Literal["hard", "shared"] = "hard"
    """What trains the interest that fits the target best: `hard`, a softmax of its own, as in ComiRec, or `shared`, in
    which the other interests are rivals, so that they learn not to outdo it when the target is not known."""
    hidden_size: Size = 128
    """Width of items and interests."""
    residual: bool = True
    """Interests are added to the state after the last item, as transformer layers add to what they read; false leaves
    what is drawn alone, as ComiRec and MIND do."""
    layers: Annotated[int, Bounds(0, 1000)] = 2
    """Causal transformer layers before the extraction, as SASRec's; 0 draws interests from the items alone, as MIND and
    ComiRec do."""
    heads: Size = 2
    """Attention heads of these layers."""
    feed_forward: Size = 1
    """Width of their feed-forward parts, times `hidden_size`."""
    scale: PositiveFloat | None = 18.0
    """An item's score is this many times its cosine to the nearest interest, as in `sasrec.scale`; unset takes the
    inner product."""
    dropout: Dropout = 0.5
    """Dropout."""
    max_history: Size = 50
    """Latest items that it reads."""
    batch_size: Size = 128
    """Histories per step and device."""
    learning_rate: LearningRate = 1e-3
    """Highest learning rate."""
    warmup_ratio: Fraction = 0.02
    """Share of the steps in which the learning rate rises; a cosine down to 0 follows."""
    weight_decay: WeightDecay = 0.0
    """AdamW's weight decay."""
    epochs: PositiveInt = 26
    """Passes over the histories, at most."""
    patience: PositiveInt = 10
    """Stop after this many validations without improvement."""
    semantic_weight: NonNegativeFloat = 0.1
    """Weight of the semantic prediction (λ1): an interest in words is predicted from behaviour."""
    alignment_weight: NonNegativeFloat = 0.1
    """Weight of the alignment (λ2): behaviour and words of one interest are told from those of others. With both
    weights 0 there is no explicit module, and nothing needs interests."""
    temperature: Temperature = 0.1
    """Cosines are divided by it in the alignment."""
    warmup_epochs: NonNegativeInt = 4
    """Epochs of behaviour alone, before customers are clustered."""
    clusters: Size = 64
    """Clusters of customers (k-means)."""
    typical_users: Size = 32
    """Typical customers a cluster, those nearest to its centre."""
    typical_batch: Size = 64
    """Typical customers per step and device."""
    explicit_interests: Size = 8
    """Interests in words of a typical customer, at most: what their items share weighs most."""

    @property
    def explicit_losses(self) -> dict[str, float]:
        """What interests in words teach, with its weight; nothing where there is no explicit module."""
        weights = {"semantic": self.semantic_weight, "alignment": self.alignment_weight}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def __post_init__(self) -> None:
        check_values("eimf", self)
        check(
            self.interests <= self.max_history,
            f"eimf.interests={self.interests} is more than the longest history, eimf.max_history={self.max_history}: a "
            "history cannot hold more interests than items",
        )
        check(
            self.hidden_size % self.heads == 0,
            f"eimf.hidden_size={self.hidden_size} cannot be cut into eimf.heads={self.heads}",
        )
        check(
            not self.explicit_losses or self.warmup_epochs < self.epochs,
            f"eimf.warmup_epochs={self.warmup_epochs} leaves none of eimf.epochs={self.epochs} for the explicit "
            "interests; lower it, or set eimf.semantic_weight=0 and eimf.alignment_weight=0",
        )


SPEC: RecommenderSpec[EIMFConfig] = RecommenderSpec(
    name="eimf",
    title="EIMF",
    settings=EIMFConfig,
    stage="dig.recommenders.eimf.stage:STAGE",
    loader="dig.recommenders.eimf.model:load",
    logs=lambda config: [f"train/{name}" for name in SPEC.of(config).explicit_losses],
    colour=6,
)

__getattr__ = lazy_names(__name__, {"KnownUsers": "explicit", "EIMF": "model", "EIMFModule": "module"})
