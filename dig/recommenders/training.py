"""How recommenders come to be: counted in one go, or trained over histories of item numbers; and the stage of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import datamodules
from datamodules.leakage import write_items_seen
from datamodules.splits import leading_items
from dig.config import Config, UserError
from dig.config.recommenders import STAGES_BEFORE, RecommenderSpec, resolve
from dig.engine.lazy import lightning
from dig.engine.moved import renamed_arguments
from dig.engine.stage import Stage, StageContext, select
from dig.engine.training import Plan, fit
from dig.stages.prepare import load_catalogue, load_sequences, load_stamp

__all__ = ["ItemTraining", "recommender_stage", "train_on_items"]


def recommender_stage(spec: RecommenderSpec[Any]) -> Stage:
    """The stage that leaves a recommender: its own, or one that counts.

    Raises:
        UserError: with exit code 2, for a recommender of an installed package: its stage cannot be imported or is none.
    """
    if spec.package is not None:  # what would fail when everything is built fails now
        resolve(spec, "model" if spec.stage is None else "loader")
    if spec.stage is None:
        return _of_package(spec, _counting_stage(spec))
    stage = resolve(spec, "stage")
    if not isinstance(stage, Stage) or (stage.name, stage.needs) != (spec.name, spec.needs):
        expected = f"a Stage called {spec.name} that needs {spec.needs}"
        raise UserError(f"{spec.wrong}: stage: expected {expected}, {spec.stage} is {stage!r:.200}", exit_code=2)
    return _of_package(spec, stage)


def _of_package(spec: RecommenderSpec[Any], stage: Stage) -> Stage:
    """A package's stage runs where its recommender is asked for, and again with another release of the package."""
    if spec.package is None:
        return stage

    def config_keys(config: Config) -> dict[str, Any]:
        return stage.config_keys(config) | {"package": spec.package}

    def optional_inputs(config: Config) -> tuple[str, ...]:
        further = tuple(stage.optional_inputs(config))
        if unknown := [name for name in further if name not in STAGES_BEFORE]:
            message = f"expected further of {', '.join(STAGES_BEFORE)} in optional_inputs, it is {unknown[0]!r}"
            raise UserError(f"{spec.wrong}: stage: {message}", exit_code=2)
        return further

    return replace(
        stage,
        config_keys=config_keys,
        optional_inputs=optional_inputs,
        enabled=lambda config: spec.name in config.baselines,
    )


def _counting_stage(spec: RecommenderSpec[Any]) -> Stage:
    def config_keys(config: Config) -> dict[str, Any]:
        return select(config, spec.name) if spec.settings else {}

    def build(context: StageContext, folder: Path) -> None:
        sequences, item_ids = load_sequences(context), load_catalogue(context)["item_id"]
        settings = [spec.of(context.config)] if spec.settings else []
        model = resolve(spec, "model").fit(sequences.train, len(item_ids), *settings)
        model.save(folder / "model", load_stamp(context))
        write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)

    def summary(path: Path) -> str:
        return str(getattr(resolve(spec, "model").load(path / "model"), "summary", ""))

    return Stage(
        spec.name,
        spec.needs,
        config_keys,
        build,
        summary,
        version=spec.version,
        enabled=lambda config: spec.name in config.baselines,
    )


class ItemTraining(Protocol):
    """Settings that every such training has."""

    max_history: int
    batch_size: int
    epochs: int
    patience: int


@renamed_arguments(reads="config_keys")
def train_on_items(
    stage: str,
    settings: ItemTraining,
    config_keys: dict[str, Any],
    module: lightning.LightningModule,
    context: StageContext,
    folder: Path,
) -> bool:
    """Trains, leaves the best weights by validation in ``module``, and writes which items they saw.

    Args:
        stage: its name.
        settings: its section of the configuration.
        config_keys: the configuration that decides its result.
        module: around the model, validated by ranking.
        context: the stage's.
        folder: of its artifact.

    Returns:
        Whether this is rank 0, which writes the weights.
    """
    config, sequences = context.config, load_sequences(context)
    data = datamodules.ItemSequences(
        sequences,
        settings.max_history,
        settings.batch_size,
        config.evaluation.valid_users,
        config.seed,
        config.trainer.num_workers,
    )
    plan = Plan(stage, config_keys, settings.epochs, gradient_clip_val=1.0, ranked=True, patience=settings.patience)
    fit(plan, module, data, context, folder)
    if not module.trainer.is_global_zero:
        return False
    item_ids = load_catalogue(context)["item_id"]
    write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)
    return True
