"""Runs the stages in order: what is cached is skipped, what was interrupted resumes, what is missing is built."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from datamodules.fetching import fetch_data, fetch_item_pictures, missing_files
from dig import evaluation
from dig.config import BASELINES, STAGES, Config, UserError, config_to_dict
from dig.engine.artifacts import Artifact, ArtifactStore, fingerprint, lock, shown_path
from dig.engine.console import enable_progress, say, show
from dig.engine.lazy import transformers
from dig.engine.machine import check_machine
from dig.engine.own_files import text_path
from dig.engine.stage import build_alone, build_together
from dig.engine.strategy import check_trainer
from dig.report.table import metrics_table
from dig.stages import BUILT, Stage, StageContext, global_rank
from dig.stages.evaluation import evaluate_all
from dig.stages.report import build_report, fill_run
from dig.stages.rewards import NOT_IMPORTED, modules_to_import, without_own_code
from dig.stages.start import check_backbone, check_start
from dig.tracking import NOT_TRACKED, Tracking

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

__all__ = [
    "Run",
    "Watchers",
    "build_stages",
    "describe",
    "find_stages",
    "run_experiment",
    "shared_folders",
    "stage_keys",
]

Watchers = Callable[[str], "Sequence[Callback]"]
"""Callbacks by the name of the training stage that they watch."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder.
        metrics: what ``metrics.json`` holds; empty if ``report`` was not asked for.
        artifacts: the folder of each stage's artifact.
    """

    path: Path
    metrics: dict[str, Any]
    artifacts: dict[str, Path]


@dataclass(frozen=True)
class _Step:
    """A stage with the fingerprint that its configuration and its inputs give it."""

    stage: Stage
    needs: tuple[str, ...]
    key: str
    origin: dict[str, Any]


def run_experiment(config: Config, callbacks: Watchers = lambda stage: ()) -> Run:
    """Runs the stages that ``config.stages`` asks for, and what they need.

    Args:
        config: the experiment.
        callbacks: Lightning callbacks that watch a training stage, by its name; a stage that is cached trains nothing.

    Raises:
        UserError: for whatever the user can mend.
    """
    with Tracking(config, _run_folder(config), global_rank()) as tracking:
        return _run(config, tracking, callbacks)


def _run(config: Config, tracking: Tracking, callbacks: Watchers) -> Run:
    context, states = build_stages(config, callbacks, tracking)
    rank = global_rank()
    metrics: dict[str, Any] = {}
    if "report" in config.stages:
        evaluations = evaluate_all(context)
        if rank == 0:
            with lock(context.run / ".lock", f"report: another process is writing {shown_path(context.run)}"):
                metrics = build_report(context, states, evaluations)
            for part in ("valid", "test", evaluation.other_protocol("test", config.evaluation.mask_history).name):
                show(metrics_table(metrics, part))
            _say_gain(metrics)
            tracking.report(metrics)
    elif rank == 0:
        with lock(context.run / ".lock", f"another process is writing {shown_path(context.run)}"):
            _fill(context)
    if rank == 0:
        _point_latest(context.run)
        say(f"run: {shown_path(context.run)}")
    return Run(context.run, metrics, {name: artifact.path for name, artifact in context.inputs.items()})


def _fill(context: StageContext) -> None:
    """Leaves in the run's folder what is finished of its configuration, and says what a report would add."""
    config, store, whole = context.config, context.store, True
    every = copy(config)
    every.stages = [name for name in STAGES if name not in BASELINES or name in config.baselines]
    try:
        steps = _described(every)  # own code is not run for a stage that was not asked for
    except UserError as error:  # of a stage that was not asked for
        say(f"the stages that were not asked for are left as they are: {error}")
        steps, whole = [], False
    if modules_to_import(config):  # without them it is not known which grpo is this configuration's
        whole = False
    finished = {step.stage.name: artifact for step in steps if (artifact := store.find(step.stage.name, step.key))}
    inputs = {**finished, **context.inputs}
    fill_run(StageContext(config, inputs, store, context.run), whole)
    trained = [name for name in ("sft", "grpo") if name in inputs]
    if trained:
        command = f"python -m dig.train experiment={shown_path(context.run / 'config.yaml')}"
        say(f"the run has {' and '.join(trained)}, not measured: {command} stages=[{','.join(trained)},report]")


def build_stages(
    config: Config, callbacks: Watchers = lambda stage: (), tracking: Tracking | None = None
) -> tuple[StageContext, list[dict[str, Any]]]:
    """Builds what ``config.stages`` asks for up to the report.

    Args:
        config: the experiment.
        callbacks: as of :func:`run_experiment`.
        tracking: what is sent to W&B; None sends nothing.

    Returns:
        The finished artifacts, and name, seconds and ``cached`` of each stage.

    Raises:
        UserError: for whatever the user can mend.
    """
    enable_progress(config.logging.progress and global_rank() == 0)
    check_machine(config)
    prepared = cache(partial(_prepare_building, config))
    if missing_files(config.data):
        prepared()
    fetch_data(config.data)
    rank = global_rank()
    if rank == 0:
        fetch_item_pictures(config.data)
    store, run = ArtifactStore(), _run_folder(config)
    if rank == 0:
        run.mkdir(parents=True, exist_ok=True)
    finished: dict[str, Artifact] = {}
    states: list[dict[str, Any]] = []
    steps = _plan(config)
    if not steps:
        raise UserError(
            f"stages=[{', '.join(config.stages)}]: the configuration switches these off, so nothing is left to do",
            exit_code=2,
        )
    unbuilt = _unbuilt(steps, store)
    if unbuilt or "report" in config.stages:
        prepared()
    check_backbone(config, unbuilt)
    for step in steps:
        with tracking.stage(step.stage.name, step.needs) if tracking else NOT_TRACKED as tracked:
            context = StageContext(
                config, {name: finished[name] for name in step.needs}, store, run, tracked, callbacks
            )
            artifact = _finish(step, context, prepared)
            tracked.built(artifact.path, artifact.cached)
        finished[step.stage.name] = artifact
        states.append({"name": step.stage.name, "seconds": artifact.seconds, "cached": artifact.cached})
        if rank == 0:
            how = "cached" if artifact.cached else f"{artifact.seconds:.1f} s"
            say(f"{step.stage.name:9} {how:>9}  {step.stage.summary(artifact.path)}")
        if step.stage.name == "prepare":
            for other in steps:
                if not store.exists(other.stage.name, other.key):
                    other.stage.check(StageContext(config, finished, store, run))
    return StageContext(config, finished, store, run), states


def shared_folders(config: Config) -> list[Path]:
    """What every rank has to see: the run's folder and the store of artifacts."""
    return [_run_folder(config), ArtifactStore().root]


def find_stages(config: Config) -> StageContext:
    """What is finished of ``config.stages`` and what they need, without building or verifying anything.

    Modules that the configuration names are not imported, so ``grpo`` with reward terms of them is not found.
    """
    store = ArtifactStore()
    artifacts = {
        step.stage.name: Artifact(store.root / step.stage.name / step.key, step.key, 0.0)
        for step in _described(config)
        if store.exists(step.stage.name, step.key)
    }
    return StageContext(config, artifacts, store, _run_folder(config))


def stage_keys(config: Config) -> dict[str, str]:
    """The fingerprint of each stage that a configuration runs, in order; equal ones are computed once.

    Modules that the configuration names are not imported; with reward terms of them ``grpo`` has not its own.
    """
    return {step.stage.name: step.key for step in _described(config)}


def describe(config: Config) -> Table:
    """The stages, whether each is cached, and what each would read; nothing is built or imported."""
    store = ArtifactStore()
    table = Table(title=f"{config.experiment}: dry run", title_justify="left")
    for heading in ("stage", "state", "needs", "fingerprint", "reads"):
        table.add_column(heading, overflow="fold")
    check_start(config)
    missing = missing_files(config.data)
    if missing:  # the rest depends on what they hold
        table.add_row("download", "to do", "the publisher", "", ", ".join(str(path) for path in missing))
        return table
    steps = _described(config)
    check_backbone(config, _unbuilt(steps, store), network=False)
    for step in steps:
        kind, key = step.stage.name, step.key
        if NOT_IMPORTED in step.origin["reads"].get("own reward terms", {}).values():
            reads = ", ".join(step.origin["reads"])
            table.add_row(kind, "known in a run", ", ".join(step.needs), "that of its own terms' code", reads)
            continue
        state = "cached" if store.exists(kind, key) else "to do"
        if state == "to do" and store.work_folder(kind, key).is_dir():
            state = "interrupted, resumes"
        reads = ", ".join(step.origin["reads"])
        table.add_row(kind, state, ", ".join(step.needs) or "the source", key, reads)
    if "report" in config.stages:
        table.add_row("report", "always", "what is above", "", "evaluation")
    table.caption = f"run folder: {shown_path(_run_folder(config))}"
    if modules := modules_to_import(config):
        table.caption += f"\na run imports (grpo.reward.modules), a dry run does not: {escape(', '.join(modules))}"
    return table


def _plan(config: Config) -> list[_Step]:
    """The wanted stages and what they need, in order, with their fingerprints."""
    names = {name for name in config.stages if name in BUILT and BUILT[name].enabled(config)}
    if "report" in config.stages:
        names |= {"prepare", *config.baselines}
    for name in reversed(BUILT):
        if name in names:
            names |= set(BUILT[name].inputs(config))
    keys: dict[str, str] = {}
    steps = []
    for name in STAGES:
        if name in names:
            stage = BUILT[name]
            needs = stage.inputs(config)
            origin = {
                "stage": name,
                "version": stage.version,
                "reads": stage.config_keys(config),
                "inputs": {need: keys[need] for need in needs},
            }
            keys[name] = fingerprint(origin)
            steps.append(_Step(stage, needs, keys[name], origin))
    return steps


def _described(config: Config) -> list[_Step]:
    """The plan as far as it is known without importing what the configuration names."""
    with without_own_code():
        return _plan(config)


def _unbuilt(steps: Sequence[_Step], store: ArtifactStore) -> set[str]:
    """Names of the stages whose artifact is not there."""
    return {step.stage.name for step in steps if not store.exists(step.stage.name, step.key)}


def _finish(step: _Step, context: StageContext, prepared: Callable[[], None]) -> Artifact:
    """Finds or builds a stage's artifact; rank 0 alone writes, others train along or wait."""
    stage = step.stage

    def build(folder: Path) -> None:
        prepared()  # an artifact that was there may have turned out to be damaged
        stage.build(context, folder)

    together = build_together if stage.every_rank else build_alone
    return together(context, stage.name, step.key, build, step.origin)


def _prepare_building(config: Config) -> None:
    """What a run needs that builds or measures anything, and one that finds all its artifacts does without.

    Raises:
        UserError: with exit code 2: Lightning refuses the trainer's settings.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a tokenizer's threads and worker processes do not mix
    check_trainer(config.trainer)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _run_folder(config: Config) -> Path:
    """``runs/<experiment>/<run-id>``; the same configuration finds the same folder again."""
    content = config_to_dict(config)
    for key in ("run_id", "runs_dir", "logging", "slurm", "stages"):
        content.pop(key)
    content["trainer"].pop("profiler")  # looks on
    run_id = config.run_id or fingerprint(content)[:12]
    return text_path(Path(config.runs_dir).absolute(), "runs_dir= names another") / config.experiment / run_id


def _say_gain(metrics: dict[str, Any]) -> None:
    """Whether GRPO is above SFT on the test, and how sure that is."""
    gains = metrics.get("grpo", {}).get("over_sft")
    if gains:
        name, gain = list(gains.items())[-1]
        interval = f"{gain['low']:+.4f} to {gain['high']:+.4f}"
        say(f"grpo over sft, test, {name}: {gain['difference']:+.4f} (95 % of resampled users: {interval})")


def _point_latest(run: Path) -> None:
    latest = run.parent / "latest"
    temporary = run.parent / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(run.name)
    temporary.replace(latest)
