"""What SFTModule and GRPOModule share: the backbone, its validation by constrained beam search, its optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Self

import lightning
import torch
from torch import Tensor

from dig.config import UserError
from dig.config.load import load_run_config
from dig.config.renamed import modernised
from dig.config.schema import EvaluationConfig, GRPOConfig, SFTConfig
from dig.evaluation import ranking_metrics
from dig.generation import CatalogueTrie, beam_search
from dig.generation.backbone import Backbone, load_backbone
from dig.generation.lora import base_digest, frozen_names
from dig.modules.optimisation import warmup_cosine
from dig.modules.restoring import (
    BASE,
    MODULE,
    check_base,
    describe_backbone,
    read_checkpoint,
    rebuild_backbone,
    rebuild_settings,
    told_by,
)
from dig.modules.sharding import ShardedModel
from dig.quantization import SemanticIds

if TYPE_CHECKING:
    from datamodules.sequences import HeldOutBatch

__all__ = ["PolicyModule"]


class PolicyModule(lightning.LightningModule):
    """A generative recommender that is trained.

    Args:
        backbone: model and tokenizer.
        item_tokens: (items, levels) vocabulary ids of each item's Semantic ID, -1 for a missing suffix.
        config: learning rate, weight decay and warm-up.
        evaluation: cut-offs and beams of the validation.
    """

    stage: ClassVar[str]
    settings: ClassVar[type]
    _required: ClassVar[tuple[str, ...]] = ("backbone", "item_tokens", "config", "evaluation")

    def __init__(
        self, backbone: Backbone, item_tokens: Tensor, config: SFTConfig | GRPOConfig, evaluation: EvaluationConfig
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.model = backbone.model
        self.item_tokens = item_tokens
        self.trie = CatalogueTrie(item_tokens, duplicates=True, persistent=False)
        self.optimisation, self.evaluation = config, evaluation
        self.valid_beams = max(evaluation.valid_beams, *evaluation.ks)
        self.valid_metrics = ranking_metrics(evaluation.ks, prefix="valid/")
        self.validated_at: int | None = None  # the step whose weights the last validation saw
        self.sharded: ShardedModel | None = None
        self._base_is_whole: bool | None = None  # whether the frozen weights are those of the base's source

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **named: Any,
    ) -> Self:
        """Lightning's: the path alone suffices, as a checkpoint tells how its module was made.

        Args:
            checkpoint_path: a checkpoint, or the folder that a run leaves of the stage
                (``runs/quickstart/latest/checkpoints/sft``).
            map_location: as of ``torch.load``.
            hparams_file: as of Lightning; nothing here reads it.
            strict: whether all weights have to fit.
            weights_only: nothing is ever unpickled, so False is the same as True.
            named: arguments of the constructor that replace those of the checkpoint.

        Raises:
            UserError: it is not such a checkpoint; or it was written before checkpoints told how their module was
                made, and then the arguments of the constructor that are missing are named.
        """
        if isinstance(checkpoint_path, str | Path) and Path(checkpoint_path).is_dir():
            return cls(**{**cls._arguments_of_run(Path(checkpoint_path), named), **named})
        missing = [name for name in cls._required if name not in named]
        if missing:
            remedy = (
                f"pass {', '.join(f'{name}=' for name in missing)} to {cls.__name__}.load_from_checkpoint, or load the "
                f"run's folder checkpoints/{cls.stage}, which needs none of them"
            )
            making, state = read_checkpoint(checkpoint_path, cls.stage, remedy)
            with told_by(str(checkpoint_path)):
                named = {**cls._arguments_of(making, state, str(checkpoint_path), named), **named}
        loaded: Self = super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only=True, **named
        )
        return loaded

    @classmethod
    def _arguments_of(
        cls, making: Mapping[str, Any], state: Mapping[str, Tensor], where: str, named: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Arguments of the constructor that are not given, as a checkpoint tells them."""
        settings = modernised({cls.stage: making["config"]})[cls.stage]
        arguments: dict[str, Any] = {
            "item_tokens": making["item_tokens"].to(torch.int64),
            "config": rebuild_settings(cls.settings, settings, where),
            "evaluation": rebuild_settings(EvaluationConfig, making["evaluation"], where),
        }
        if "backbone" not in named:
            weights = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
            arguments["backbone"] = rebuild_backbone(making["backbone"], weights, where, making.get(BASE))
        return arguments

    @classmethod
    def _arguments_of_run(cls, folder: Path, named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the constructor that are not given, as the folder of a finished run tells them."""
        ids = SemanticIds.load(folder / "semantic_ids.parquet")
        backbone = named["backbone"] if "backbone" in named else load_backbone(folder, ids.sizes)
        arguments: dict[str, Any] = {"backbone": backbone, "item_tokens": backbone.vocabulary.encode(ids.codes)}
        run = folder.resolve().parent.parent
        if not {"config", "evaluation"} <= set(named):
            if not (run / "config.yaml").is_file():
                raise UserError(
                    f"{folder} is not in the folder of a run, whose config.yaml tells the settings: pass config= and "
                    f"evaluation= to {cls.__name__}.load_from_checkpoint"
                )
            config = load_run_config(run)
            arguments |= {"config": getattr(config, cls.stage), "evaluation": config.evaluation}
        return arguments

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds how the module is made, for :meth:`load_from_checkpoint`, and leaves out what adapters stand on."""
        checkpoint[MODULE] = {"stage": self.stage, **self._making}
        base, state = self.backbone.base, checkpoint["state_dict"]
        checkpoint["state_dict"] = self.trained_state(state)
        if base is not None and self._base_is_whole:
            checkpoint[BASE] = {"source": base.source, "digest": base.digest}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compares what the checkpoint's adapters stand on with what these do.

        Raises:
            UserError: they are different models.
        """
        check_base(checkpoint.get(BASE), self.backbone.base, self.stage)

    def trained_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights by name without those of a frozen base, as long as these are what its source holds.

        Args:
            state: of this module, as its ``state_dict()`` or Lightning has it; ranks that hold no weights have none.
        """
        base = self.backbone.base
        if base is None or not state:
            return state
        if self._base_is_whole is None:
            weights = {name.removeprefix("model."): value for name, value in state.items()}
            self._base_is_whole = base_digest(self.model, weights, base.new_rows) == base.digest
        left_out = self._frozen_names if self._base_is_whole else set()
        return {name: value for name, value in state.items() if name not in left_out}

    @cached_property
    def _frozen_names(self) -> set[str]:
        return {f"model.{name}" for name in frozen_names(self.model)} if self.backbone.base is not None else set()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """torch's; what the backbone's adapters stand on may be left out, and then stays as it is."""
        missing = self._frozen_names - state_dict.keys()
        if missing:
            own = self.state_dict()
            state_dict = {**{name: own[name] for name in missing}, **state_dict}
        return super().load_state_dict(state_dict, strict, assign)

    @cached_property
    def _making(self) -> dict[str, Any]:
        """The arguments of the constructor in plain values; training changes none of them."""
        return {
            "backbone": describe_backbone(self.backbone),
            "item_tokens": self.item_tokens.to("cpu", torch.int32),
            "config": asdict(self.optimisation),
            "evaluation": asdict(self.evaluation),
        }

    def configure_model(self) -> None:
        """Shares the weights out over the ranks, where the strategy wants that (``trainer.strategy=fsdp``)."""
        if self.device_mesh is not None and self.sharded is None:
            self.strict_loading = self.backbone.base is None
            mesh = self.device_mesh["data_parallel"]
            self.sharded = ShardedModel(self.model, mesh, keep_plain=self.trainer.is_global_zero)

    def gathered(self) -> AbstractContextManager[None]:
        """A time in which this rank holds all weights; nothing may be trained within."""
        return nullcontext() if self.sharded is None else self.sharded.gathered()

    def computed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a differentiable function that asks parts of the model."""
        return function(*arguments) if self.sharded is None else self.sharded.run(function, *arguments)

    def restore_whole(self, state: dict[str, Tensor]) -> None:
        """Takes over full weights as they stand in a checkpoint; of ranks that share them out the first alone does."""
        if self.sharded is None:
            self.load_state_dict(state)
        elif self.trainer.is_global_zero:
            self.model = self.backbone.model = self.sharded.whole(state, "model.")

    def on_validation_start(self) -> None:
        """Ranks may have different numbers of batches, so each needs all weights."""
        self.backbone.remember()
        if self.sharded is not None:
            self.sharded.gather()

    def validation_step(self, batch: HeldOutBatch) -> None:
        """Ranks the catalogue after each history and counts hits."""
        beams = beam_search(self.model, batch.input_ids, batch.attention_mask, self.trie, self.valid_beams)
        self.valid_metrics.update(beams.items, batch.targets)
        self.log_dict(self.valid_metrics, on_step=False, on_epoch=True, batch_size=len(batch.targets))

    def on_validation_end(self) -> None:
        """Notes the step."""
        self.validated_at = self.trainer.global_step
        self.backbone.forget()
        if self.sharded is not None:
            self.sharded.scatter()

    def configure_optimizers(self) -> Any:
        """AdamW without decay on vectors (norms, biases), warm-up, then a cosine down to 0.

        A pretrained embedding has no decay either: most of its rows stand for words that no batch holds.
        """
        config = self.optimisation
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        spared = {id(parameter) for parameter in trained if parameter.ndim < 2}
        if not self.backbone.from_scratch:
            causal: Any = self.model
            tables = (causal.get_input_embeddings(), causal.get_output_embeddings())
            spared |= {id(parameter) for table in tables for parameter in table.parameters()}
        groups = [
            {"params": [p for p in trained if id(p) not in spared], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if id(p) in spared], "weight_decay": 0.0},
        ]
        # Lightning clips no gradients for a fused optimiser under mixed precision.
        fused = self.sharded is None and not str(self.trainer.precision).endswith("mixed")
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=fused)
        total = self.scheduled_steps()
        return warmup_cosine(optimizer, math.ceil(config.warmup_ratio * total), total)

    def scheduled_steps(self) -> int:
        """Steps of the learning-rate schedule.

        Counted from the data: to ask the trainer would set its loaders up before a checkpoint's position is restored.
        """
        steps = self.schedule_per_epoch() * int(self.trainer.max_epochs or 1)
        return min(steps, self.trainer.max_steps) if self.trainer.max_steps > 0 else steps

    def schedule_per_epoch(self) -> int:
        """How often Lightning moves the learning rate on in an epoch: once for the batches that it sums."""
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        return -(-batches // self.trainer.accumulate_grad_batches)
