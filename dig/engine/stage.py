"""What a stage is: what it reads, what it needs, how it is built. The pipeline knows no more of it than this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig.config import Config, config_to_dict
from dig.engine.artifacts import Artifact, ArtifactStore
from dig.engine.moved import renamed_arguments
from dig.engine.ranks import follow, global_rank, leading, world_size
from dig.tracking import NOT_TRACKED, StageTracking

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

__all__ = ["Stage", "StageContext", "build_alone", "build_together", "global_rank", "rank_patience", "select"]

_SILENCE = 300.0
"""Seconds without a sign of life from rank 0 after which the others give up, unless ``trainer.timeout`` is shorter."""


@dataclass(frozen=True)
class StageContext:
    """What a stage is given.

    Attributes:
        config: the whole configuration; a stage uses the part that its ``config_keys`` name.
        inputs: finished artifacts by the name of their stage.
        store: for artifacts of a stage's own making.
        run: the run's folder, for logs.
        tracking: what it sends to W&B.
        callbacks: what watches a training stage from outside, by the stage's name.
    """

    config: Config
    inputs: Mapping[str, Artifact]
    store: ArtifactStore
    run: Path
    tracking: StageTracking = NOT_TRACKED
    callbacks: Callable[[str], Sequence[Callback]] = field(default=lambda stage: ())

    def file(self, stage: str, name: str) -> Path:
        """A file in an input artifact."""
        return self.inputs[stage].path / name


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline.

    Attributes:
        name: its name in ``stages=[…]``.
        needs: stages whose artifacts it always reads.
        config_keys: the part of the configuration (and of the outside world, as hashes) that decides its result.
        build: fills the artifact's folder; what it finds there was left by an interrupted build.
        summary: one line about a finished artifact.
        version: bumped when the code's behaviour changes.
        every_rank: whether all ranks build together (training, encoding) or rank 0 alone.
        optional_inputs: further stages that it reads under a configuration.
        enabled: whether a configuration has any use for it.
        check: looks, once the catalogue is prepared and before anything dear is built, at what would fail it later.
    """

    name: str
    needs: tuple[str, ...]
    config_keys: Callable[[Config], dict[str, Any]]
    build: Callable[[StageContext, Path], None]
    summary: Callable[[Path], str] = field(default=lambda path: "")
    version: int = 1
    every_rank: bool = False
    optional_inputs: Callable[[Config], tuple[str, ...]] = field(default=lambda config: ())
    enabled: Callable[[Config], bool] = field(default=lambda config: True)
    check: Callable[[StageContext], None] = field(default=lambda context: None)

    def inputs(self, config: Config) -> tuple[str, ...]:
        """All stages that it reads under a configuration."""
        return (*self.needs, *self.optional_inputs(config))


_renamed = renamed_arguments(reads="config_keys", says="summary", also="optional_inputs")
Stage.__init__ = _renamed(Stage.__init__)  # type: ignore[method-assign]  # a recommender's package makes stages, too


def select(config: Any, *keys: str) -> dict[str, Any]:
    """Values of dotted keys, for a stage's ``config_keys``."""
    content = config_to_dict(config)
    selected = {}
    for key in keys:
        value: Any = content
        for part in key.split("."):
            value = value[part]
        selected[key] = value
    return selected


def build_alone(
    context: StageContext, kind: str, key: str, build: Callable[[Path], None], origin: dict[str, Any]
) -> Artifact:
    """Finds or builds an artifact on rank 0, before any process group exists; the other ranks wait for it."""
    return _shared(context, kind, key, build, origin, together=False)


def build_together(
    context: StageContext, kind: str, key: str, build: Callable[[Path], None], origin: dict[str, Any]
) -> Artifact:
    """Finds or builds an artifact on which all ranks work; rank 0 alone judges, writes and seals it."""
    return _shared(context, kind, key, build, origin, together=True)


def rank_patience(config: Config) -> float:
    """Seconds for which a rank waits without a sign of life from rank 0."""
    return min(_SILENCE, config.trainer.timeout)


def _shared(
    context: StageContext, kind: str, key: str, build: Callable[[Path], None], origin: dict[str, Any], together: bool
) -> Artifact:
    store, trainer = context.store, context.config.trainer
    alone = world_size() == 1 and trainer.num_nodes == 1 and trainer.devices == 1
    if alone or global_rank() == 0:
        store.note_use(kind, key, context.run)  # before it is looked for, so that nobody removes it in between
    if alone:
        return store.get(kind, key, build, origin)
    if global_rank() == 0:
        with leading(store.word_file(kind, key)) as word:

            def announced(folder: Path) -> None:
                word.building()
                build(folder)

            return store.get(kind, key, announced, origin)
    patience = rank_patience(context.config)
    work = store.work_folder(kind, key)
    if follow(store.word_file(kind, key), kind, patience, joins=together):
        work.mkdir(parents=True, exist_ok=True)
        build(work)
        follow(store.word_file(kind, key), kind, patience)
    return store.built(kind, key)
