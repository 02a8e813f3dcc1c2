"""The typed schema of an experiment: a dataclass per section, one sentence under each field.

The sentences are what ``--help`` prints. Checks live in ``__post_init__`` and name the key to change; here are those
between sections. Values without a source in the papers are our own defaults (marked *open* in the methods) and meant
to be swept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, NoReturn

from dig.config.errors import UserError, nearest
from dig.config.recommenders import STAGES_BEFORE, build_registry
from dig.config.sections.backbone import BackboneConfig, ItemsConfig, LoraConfig, PromptConfig
from dig.config.sections.checks import Seed, check, check_folder_name, check_values
from dig.config.sections.data import (
    COLUMNS,
    INTERACTION_COLUMNS,
    ITEM_COLUMNS,
    SOURCES,
    SPLITS,
    DataConfig,
    FilesConfig,
    PictureConfig,
    ShopConfig,
)
from dig.config.sections.embedding import AdaptConfig, EmbeddingConfig, VisualConfig
from dig.config.sections.grpo import OBJECTIVES, REFERENCES, ROLLOUTS, GRPOConfig, RewardConfig, RolloutTasksConfig
from dig.config.sections.mining import LabelConfig, MiningConfig, ModelConfig
from dig.config.sections.rqvae import RQVAEConfig
from dig.config.sections.running import EvaluationConfig, LoggingConfig, TrainerConfig, WandbConfig
from dig.config.sections.sft import (
    COMPACT_TASKS,
    INTEREST_TASKS,
    NAMED,
    RELATION_TASKS,
    RelationsConfig,
    SFTConfig,
    TaskConfig,
    TasksConfig,
    active_shares,
    check_one_token,
)
from dig.config.sections.slurm import SlurmConfig

__all__ = [
    "AdaptConfig",
    "BASELINES",
    "BUILT_IN_STAGES",
    "BackboneConfig",
    "COMPACT_TASKS",
    "COLUMNS",
    "Config",
    "DataConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "FilesConfig",
    "GRPOConfig",
    "INTEREST_TASKS",
    "INTERACTION_COLUMNS",
    "ITEM_COLUMNS",
    "ItemsConfig",
    "LabelConfig",
    "LoggingConfig",
    "LoraConfig",
    "MiningConfig",
    "ModelConfig",
    "NAMED",
    "OBJECTIVES",
    "PictureConfig",
    "PromptConfig",
    "RECOMMENDERS",
    "REFERENCES",
    "RELATION_TASKS",
    "ROLLOUTS",
    "RQVAEConfig",
    "RelationsConfig",
    "RewardConfig",
    "RolloutTasksConfig",
    "SFTConfig",
    "SOURCES",
    "SPLITS",
    "STAGES",
    "ShopConfig",
    "SlurmConfig",
    "TaskConfig",
    "TasksConfig",
    "TrainerConfig",
    "VisualConfig",
    "WandbConfig",
    "active_shares",
]


_MOVED = {
    "AssignmentConfig": "dig.config.sections.backbone",
    "EIMFConfig": "dig.recommenders.eimf",
    "IntRRConfig": "dig.recommenders.intrr",
    "ItemKNNConfig": "dig.recommenders.item_knn",
    "SASRecConfig": "dig.recommenders.sasrec",
    "TigerConfig": "dig.recommenders.tiger",
}


def __getattr__(name: str) -> NoReturn:
    """Says where settings are that lay here before."""
    if name in _MOVED:
        raise ImportError(f"dig.config.schema.{name} is {_MOVED[name]}.{name} now")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass
class _Before:
    """What stands before the recommenders' sections."""

    experiment: str = "custom"
    """Name of the experiment; runs lie under runs/<experiment>/."""
    seed: Seed = 42
    """Seed of everything that is random in training."""
    stages: list[str] = field(default_factory=lambda: list(BUILT_IN_STAGES))
    """Stages to run; what they need runs too."""
    baselines: list[str] = field(default_factory=lambda: ["popularity", "item_knn"])
    """Baselines that the report measures beside the policies: popularity, item_knn, sasrec, tiger, eimf, intrr, and
    those that installed packages register."""
    runs_dir: str = "runs"
    """Folder of the runs."""
    run_id: str | None = None
    """Name of the run's folder; unset derives it from the configuration, so the same command finds its run again."""
    data: DataConfig = field(default_factory=DataConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    visual: VisualConfig = field(default_factory=VisualConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    relations: RelationsConfig = field(default_factory=RelationsConfig)
    rqvae: RQVAEConfig = field(default_factory=RQVAEConfig)


@dataclass
class _Behind:
    """What stands behind them."""

    items: ItemsConfig = field(default_factory=ItemsConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    grpo: GRPOConfig = field(default_factory=GRPOConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)


_SECTIONS = {each.name for part in (_Before, _Behind) for each in fields(part)}
REGISTRY = build_registry({*STAGES_BEFORE, "report", "examples", "tokens", *_SECTIONS})
"""Who can be measured, and who is registered wrongly."""
RECOMMENDERS = REGISTRY.specs
"""Everything that can be measured, by name, in the order of every table."""
BASELINES = REGISTRY.baselines
"""What can be measured beside the policies."""
STAGES = (*STAGES_BEFORE, *RECOMMENDERS, "report")
BUILT_IN_STAGES: tuple[str, ...] = tuple(
    name for name in STAGES if name not in RECOMMENDERS or RECOMMENDERS[name].package is None
)
"""What ``stages`` names where nobody says otherwise: the same whatever packages are installed, since runs keep it. The
report has every baseline built that it measures."""

if TYPE_CHECKING:
    _Sections = _Before
else:
    _Sections = make_dataclass(
        "_Sections",
        [
            (name, spec.settings, field(default_factory=spec.settings))
            for name, spec in RECOMMENDERS.items()
            if spec.baseline and spec.settings
        ],
        bases=(_Before,),
        namespace={"__module__": __name__, "__doc__": "With a section for each recommender that has settings."},
    )


@dataclass
class Config(_Behind, _Sections):
    """An experiment."""

    def __post_init__(self) -> None:
        check_values("", self)
        check_folder_name("experiment", self.experiment)
        check_folder_name("run_id", self.run_id)
        check(self.run_id != "latest", "run_id=latest is the name of the link to the last run; choose another")
        for stage in self.stages:
            if stage not in STAGES:
                _refuse_broken(stage)
                hint = nearest(stage, STAGES) or STAGES[0]
                listed = ", ".join(STAGES)
                message = f"stages names {stage!r}, which is not a stage; did you mean {hint!r}? (stages: {listed})"
                raise UserError(message, exit_code=2)
        for name in self.baselines:
            if name not in BASELINES:
                _refuse_broken(name)
                hint = nearest(name, BASELINES) or BASELINES[0]
                message = f"baselines names {name!r}; did you mean {hint!r}? (baselines: {', '.join(BASELINES)})"
                raise UserError(message, exit_code=2)
        left_out = [name for name in self.stages if name in BASELINES and name not in self.baselines]
        check(
            not left_out or self.stages == list(BUILT_IN_STAGES),
            f"stages names {left_out[0] if left_out else ''}, which baselines=[{', '.join(self.baselines)}] leaves "
            "out; add it there",
        )
        check(bool(self.stages), f"stages=[] leaves nothing to do; stages: {', '.join(STAGES)}")
        check(
            self.data.source != "tables" or bool(self.data.path),
            "data.path is not set: name the folder of interactions.csv and items.jsonl, or use data.source=quickstart",
        )
        for key, asks in (
            ("mining.miners", "openclip" in self.mining.miners),
            ("rqvae.inputs", self.rqvae.inputs in ("image", "fused")),
        ):
            check(not asks or self.visual.model is not None, f"{key} asks for pictures, so visual.model must be set")
        check(
            self.labels.judge is None or self.labels.judge in self.mining.models,
            f"labels.judge={self.labels.judge} is not a name of mining.models "
            f"({', '.join(self.mining.models) or 'none'})",
        )
        written = self.items.representation
        if written == "one":
            check_one_token(self.backbone, self.prompt, self.sft, self.sft_shares)
        check(
            written == "sid" or self.backbone.pretrained is None,
            f"items.representation={written} is for a backbone from scratch; a pretrained one spells items by their "
            "codes: set items.representation=sid",
        )
        check(
            self.items.start != "text" or not self.items.starts or self.backbone.pretrained is not None,
            "items.start=text needs a backbone that knows words: set backbone.pretrained, or take items.start=codebook",
        )
        check(
            bool(self.relation_tasks) or "relations" not in self.stages or self.stages == list(BUILT_IN_STAGES),
            "stages names relations, and no task reads any; set sft.tasks.collaborative.share=1 or "
            "sft.tasks.semantic.share=1",
        )
        text = [name for name in self.grpo.tasks.shares if name != "next_item"]
        check(
            not text or self.backbone.pretrained is not None,
            f"grpo.tasks.{text[0] if text else ''} needs a backbone that knows text: set backbone.pretrained",
        )
        check(
            self.grpo.reference != "adapter" or (self.backbone.pretrained is not None and self.backbone.lora.enabled),
            "grpo.reference=adapter needs an adapter: set backbone.pretrained with backbone.lora.enabled=true, or "
            "take grpo.reference=frozen",
        )
        steps = self.grpo.minibatches * self.grpo.updates_per_rollout
        check(
            self.trainer.accumulate_grad_batches == 1 or steps == 1,
            f"trainer.accumulate_grad_batches={self.trainer.accumulate_grad_batches} cannot be joined with {steps} "
            "optimiser steps per rollout batch; set grpo.minibatches=1 and grpo.updates_per_rollout=1",
        )

    @property
    def input_kind(self) -> str:
        """What the tokenizer reads: `text`, `image` or `fused`."""
        if self.rqvae.inputs != "auto":
            return self.rqvae.inputs
        return "text" if self.visual.model is None else "fused"

    @property
    def sft_shares(self) -> dict[str, float]:
        """Share of each task that supervised fine-tuning learns."""
        return active_shares(self.sft.tasks, knows_text=self.backbone.pretrained is not None)

    @property
    def relation_tasks(self) -> set[str]:
        """Tasks of supervised fine-tuning that read relations between items."""
        return set(self.sft_shares) & set(RELATION_TASKS)

    @property
    def looks_at_pictures(self) -> bool:
        """Whether any stage has a use for pictures."""
        return self.visual.model is not None and ("openclip" in self.mining.miners or self.input_kind != "text")


def _refuse_broken(name: str) -> None:
    """Says of a name that is registered wrongly what is wrong with it."""
    if name in REGISTRY.broken:
        raise UserError(REGISTRY.broken[name], exit_code=2)
