"""EIMF: several interests a customer, learned from behaviour and aligned with interests in words."""

from __future__ import annotations

from dataclasses import dataclass

from dig.config.sections.checks import check, check_choice, check_fraction, check_positive

__all__ = ["EXTRACTIONS", "READOUTS", "EIMFConfig"]

EXTRACTIONS = ("self_attentive", "dynamic_routing")
"""How interests are drawn from a history."""
READOUTS = ("hard", "shared")
"""How the interest that fits a target best is trained."""


@dataclass
class EIMFConfig:
    """EIMF (arXiv 2411.09410): several interests a customer, learned from behaviour, and taught by interests in words.

    The paper's formulas and settings are not all public; docs/eimf.md tells what is ours.
    """

    extraction: str = "self_attentive"
    """How interests are drawn from a history: `self_attentive` (ComiRec-SA, arXiv 2005.09347) or `dynamic_routing`
    (MIND, arXiv 1904.08030, and ComiRec-DR)."""
    interests: int = 4
    """Interests a customer (K)."""
    routing_iterations: int = 3
    """Rounds of dynamic routing."""
    attention_size: int = 256
    """Hidden width of the self-attentive extraction."""
    readout: str = "hard"
    """What trains the interest that fits the target best: `hard`, a softmax of its own, as in ComiRec, or `shared`, in
    which the other interests are rivals, so that they learn not to outdo it when the target is not known."""
    hidden_size: int = 128
    """Width of items and interests."""
    residual: bool = True
    """Interests are added to the state after the last item, as transformer layers add to what they read; false leaves
    what is drawn alone, as ComiRec and MIND do."""
    layers: int = 2
    """Causal transformer layers before the extraction, as SASRec's; 0 draws interests from the items alone, as MIND and
    ComiRec do."""
    heads: int = 2
    """Attention heads of these layers."""
    feed_forward: int = 1
    """Width of their feed-forward parts, times `hidden_size`."""
    scale: float | None = 18.0
    """An item's score is so many times its cosine to the nearest interest, as in `sasrec.scale`; unset takes the inner
    product."""
    dropout: float = 0.5
    """Dropout."""
    max_history: int = 50
    """Latest items that it reads."""
    batch_size: int = 128
    """Histories a step and device."""
    learning_rate: float = 1e-3
    """Highest learning rate."""
    warmup_fraction: float = 0.02
    """Share of the steps in which the learning rate rises; a cosine down to 0 follows."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    epochs: int = 26
    """Passes over the histories, at most."""
    patience: int = 10
    """Stop after so many validations without improvement."""
    semantic_weight: float = 0.1
    """Weight of the semantic prediction (λ1): an interest in words is predicted from behaviour."""
    alignment_weight: float = 0.1
    """Weight of the alignment (λ2): behaviour and words of one interest are told from those of others. With both
    weights 0 there is no explicit module, and nothing needs interests."""
    temperature: float = 0.1
    """Cosines are divided by it in the alignment."""
    warmup_epochs: int = 4
    """Epochs of behaviour alone, before customers are clustered."""
    clusters: int = 64
    """Clusters of customers (k-means)."""
    typical_users: int = 32
    """Typical customers a cluster, those nearest to its centre."""
    typical_batch: int = 64
    """Typical customers a step and device."""
    explicit_interests: int = 8
    """Interests in words of a typical customer, at most: what their items share weighs most."""

    @property
    def explicit_losses(self) -> dict[str, float]:
        """What interests in words teach, with its weight; nothing where there is no explicit module."""
        weights = {"semantic": self.semantic_weight, "alignment": self.alignment_weight}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def __post_init__(self) -> None:
        check_choice("eimf.extraction", self.extraction, EXTRACTIONS)
        check_choice("eimf.readout", self.readout, READOUTS)
        check_positive("eimf", self, "interests", "routing_iterations", "attention_size", "hidden_size", "heads",
                       "feed_forward", "scale", "max_history", "batch_size", "learning_rate", "epochs", "patience",
                       "temperature", "clusters", "typical_users", "typical_batch", "explicit_interests")  # fmt: skip
        check_fraction("eimf", self, "dropout", "warmup_fraction")
        for name in ("layers", "weight_decay", "semantic_weight", "alignment_weight", "warmup_epochs"):
            check(getattr(self, name) >= 0, f"eimf.{name} must not be below 0, it is {getattr(self, name)}")
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
