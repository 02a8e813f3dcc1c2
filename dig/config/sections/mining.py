"""Deep interests: mined (MLIM)."""

from __future__ import annotations

from dataclasses import dataclass, field

from dig.config.errors import nearest
from dig.config.sections.checks import check, check_choice
from dig.config.sections.models import ModelConfig
from dig.config.sections.numbers import Fraction, PositiveFloat, PositiveFraction, PositiveInt, check_bounds

__all__ = ["BUILT_IN_MINERS", "MiningConfig"]

BUILT_IN_MINERS = ("lexical", "imported", "openclip")


@dataclass
class MiningConfig:
    """MLIM: where the deep interests of an item come from."""

    miners: list[str] = field(default_factory=lambda: ["lexical"])
    """Miners: `lexical` (key phrases), `imported` (`mining.imports`), `openclip` (pictures), names of `mining.models`;
    [] mines nothing."""
    models: dict[str, ModelConfig] = field(default_factory=dict)
    """Models by a name of your own, which `mining.miners`, `mining.captioner` and `labels.judge` can call."""
    captioner: str | None = None
    """The model of `mining.models` that describes pictures of items without a caption; it must have vision."""
    interests_prompt: str = "interests-v1"
    """Prompt of the miners: one of ours by name, or a file of your own."""
    caption_prompt: str = "caption-v1"
    """Prompt of the captioner: one of ours by name, or a file of your own."""
    max_cost_usd: PositiveFloat | None = None
    """Asking stops before it would cost more, earlier runs of the same mining included; unset knows no limit."""
    max_requests: PositiveInt | None = None
    """Asking stops after so many requests, earlier runs of the same mining included; unset knows no limit."""
    max_missing: Fraction = 0.02
    """Share of unanswered items a model above which the stage stops instead of going on without them."""
    merge_similarity: Fraction = 0.9
    """Phrases of different miners about one item are one interest from this cosine of their text vectors on."""
    imports: list[str] = field(default_factory=list)
    """Files in the `interests.jsonl.gz` format, read by the miner `imported`."""
    fallback: str | None = None
    """Miner that stands in, with a warning, where a file of `mining.imports` is missing: `lexical`; unset refuses."""
    user_interests: str | None = None
    """File of users' interests (`user_id, miner, text, items_seen`), guarded against held-out items (`data.leaks`)."""
    captions: str | None = None
    """File of image captions (`image_captions.jsonl.gz`), an evidence for mining and a part of the embedded text."""
    max_interests: PositiveInt = 8
    """At most this many interests a miner and item are kept, the most confident first."""
    max_per_item: PositiveInt = 16
    """At most this many interests of an item are left when miners are merged, those with the most votes first."""
    max_document_share: PositiveFraction = 0.2
    """The lexical miner ignores phrases found in more than this share of the catalogue."""

    def __post_init__(self) -> None:
        check_bounds("mining", self)
        known = (*BUILT_IN_MINERS, *self.models)
        for miner in self.miners:
            hint = nearest(miner, known)
            check(miner in known, f"mining.miners={miner!r} is not one of {', '.join(known)}; did you mean {hint}?")
        for name in self.models:
            check(name not in BUILT_IN_MINERS, f"mining.models.{name}: {name} is the name of a miner of ours")
        check(
            "imported" not in self.miners or bool(self.imports),
            "mining.miners names `imported`, so mining.imports must name a file",
        )
        if self.fallback is not None:
            check_choice("mining.fallback", self.fallback, ("lexical",))
        self._check_captioner()
        self._check_models()

    @property
    def asked(self) -> list[str]:
        """The miners that are models."""
        return [miner for miner in self.miners if miner in self.models]

    def _check_captioner(self) -> None:
        if self.captioner is None:
            return
        check(self.captioner in self.models, f"mining.captioner={self.captioner} is no name of mining.models")
        check(
            self.models[self.captioner].vision,
            f"mining.captioner={self.captioner}, but mining.models.{self.captioner}.vision is false: a model without "
            "vision cannot describe pictures",
        )

    def _check_models(self) -> None:
        owners: dict[str, str] = {}
        for name, model in self.models.items():
            other = owners.setdefault(model.name, name)
            check(
                other == name,
                f"mining.models.{name} and mining.models.{other} are both kept as {model.name!r}; "
                f"give one another mining.models.{name}.identity",
            )
            if self.max_cost_usd is not None:
                for price in ("price_in", "price_out"):
                    check(
                        getattr(model, price) is not None,
                        f"mining.max_cost_usd is set, so mining.models.{name}."
                        f"{price} is needed (US dollars a million tokens, 0 for a model of your own)",
                    )
