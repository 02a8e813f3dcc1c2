"""Deep interests: mined (MLIM) and labelled (RLDI)."""

from __future__ import annotations

from dataclasses import dataclass, field

from dig.config.sections.checks import check, check_choice, check_fraction, check_positive

__all__ = ["LabelConfig", "MiningConfig"]


@dataclass
class MiningConfig:
    """MLIM: where the deep interests of an item come from."""

    miners: list[str] = field(default_factory=lambda: ["lexical"])
    """Miners: `lexical` (key phrases), `imported` (`mining.imports`), `openclip` (pictures); [] mines nothing."""
    imports: list[str] = field(default_factory=list)
    """Files in the `interests.jsonl.gz` format, read by the miner `imported`."""
    fallback: str | None = None
    """Miner that stands in, with a warning, where a file of `mining.imports` is missing: `lexical`; unset refuses."""
    user_interests: str | None = None
    """File of users' interests (`user_id, miner, text, items_seen`), guarded against held-out items (`data.leaks`)."""
    captions: str | None = None
    """File of image captions (`image_captions.jsonl.gz`), an evidence for mining and a part of the embedded text."""
    max_interests: int = 8
    """At most this many interests a miner and item are kept, the most confident first."""
    max_document_share: float = 0.2
    """The lexical miner ignores phrases found in more than this share of the catalogue."""

    def __post_init__(self) -> None:
        for miner in self.miners:
            check_choice("mining.miners", miner, ("lexical", "imported", "openclip"))
        check(
            "imported" not in self.miners or bool(self.imports),
            "mining.miners names `imported`, so mining.imports must name a file",
        )
        if self.fallback is not None:
            check_choice("mining.fallback", self.fallback, ("lexical",))
        check_positive("mining", self, "max_interests", "max_document_share")


@dataclass
class LabelConfig:
    """RLDI: the binary quality label of every mined interest."""

    enabled: bool = True
    """Label interests with the classifier; false leaves all of them positive, so that q = 1 (ablation)."""
    threshold: float = 0.5
    """An interest is positive when the classifier's probability reaches this value."""
    folds: int = 5
    """Folds of the cross-validation behind the printed held-out quality."""
    min_items: int = 3
    """An interest needs this many items before behaviour can say whether it is a good one."""

    def __post_init__(self) -> None:
        check_fraction("labels", self, "threshold")
        check(self.folds >= 2, f"labels.folds must be at least 2, it is {self.folds}")
        check(self.min_items >= 2, f"labels.min_items must be at least 2, it is {self.min_items}")
