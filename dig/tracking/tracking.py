"""An experiment's W&B runs: one per stage, one for the report, all in a group; under a sweep's agent one for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dig.config import Config, config_to_dict
from dig.engine.artifacts import SCRATCH, shown_path
from dig.engine.console import say, warn
from dig.tracking.connection import Connection, Identity, Mode, connect, kept_id, trial, trial_metrics, why_offline
from dig.tracking.report import Result, declaration, log_report, log_stage, result_of_stage

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

    from dig.tracking.logger import StageLogger

__all__ = ["NOT_TRACKED", "StageTracking", "Tracking"]

_ID = "wandb_run_id"


class Tracking:
    """What an experiment sends to W&B. Opens W&B runs as they are needed and finishes them, whatever happens.

    Args:
        config: the experiment.
        run: its folder; records lie in `wandb` within it.
        rank: of this process; only rank 0 tracks.
    """

    def __init__(self, config: Config, run: Path, rank: int = 0) -> None:
        self.config = config
        self.run = run
        self.wanted = config.logging.wandb.mode != "disabled" and rank == 0
        self.trial = trial() if self.wanted else None
        self._mode: Mode | None = None
        self._shared: Connection | None = None  # a trial's
        self._behind: dict[str, dict[str, Result]] = {}  # by stage: the results that it stands on, by name
        self._stages: dict[str, Path] = {}
        self._told = False
        if rank == 0 and not self.wanted and trial():
            warn("WANDB_SWEEP_ID is set, but logging.wandb.mode=disabled: the sweep will see no metric of this trial")

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes what is open."""
        if self._shared is not None:
            if error is None:
                self._shared.log(trial_metrics(self._stages))
            self._shared.finish(_exit_code(error))
            self._shared = None

    def stage(self, name: str, needs: Iterable[str]) -> StageTracking:
        """The tracking of a stage that is about to be found or built.

        Args:
            name: the stage.
            needs: the stages that it reads, each tracked before.
        """
        used = {key: result for need in needs for key, result in self._behind.get(need, {}).items()}
        return StageTracking(self, name, used)

    def finished(self, stage: str, folder: Path, used: Mapping[str, Result]) -> Result | None:
        """Notes a finished artifact; gives what of it goes to W&B."""
        self._stages[stage] = folder
        config = self.config.logging.wandb
        made = result_of_stage(self.config.experiment, stage, folder, config.log_model) if config.artifacts else None
        self._behind[stage] = {made.name: made} if made else dict(used)
        return made

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Sends the results of the run, after the report has filled its folder.
        Args:
            metrics: what `metrics.json` holds.
        """
        if not self.wanted:
            return
        connection = self.open("report", None if self.trial else kept_id(self.run / "wandb" / _ID, "report"))
        if connection is None:
            return
        code = 1
        try:
            used = {name: result for results in self._behind.values() for name, result in results.items()}
            log_report(connection, self.config, self.run, metrics, used.values())
            code = 0
        finally:
            self.close(connection, code)

    def open(self, job_type: str, run_id: str | None) -> Connection | None:
        """The W&B run of a stage, opened; under an agent the trial's.

        Args:
            job_type: the stage.
            run_id: the W&B run's; None for a trial's, which the agent has named.
        """
        if self._shared is not None:
            return self._shared
        config = self.config.logging.wandb
        identity = (
            None
            if run_id is None
            else Identity(
                id=run_id,
                name=f"{self.config.experiment}-{job_type}",
                group=config.group or f"{self.config.experiment}-{self.run.name}",
                job_type=job_type,
            )
        )
        connection = connect(config, identity, self.run, config_to_dict(self.config), self._chosen())
        if connection is None or connection.mode == "offline":
            self._mode = "offline"  # what failed once is not waited for again
        if connection is None:
            return None
        if connection.mode == "offline":
            if not self._told:
                self._told = True
                say(f"W&B: recorded offline; `wandb sync {shown_path(self.run / 'wandb')}` sends it")
        elif url := connection.run.url:
            say(f"W&B: {job_type}: {url}")
        if self.trial:
            self._shared = connection
        return connection

    def close(self, connection: Connection, exit_code: int) -> None:
        """Finishes a W&B run, unless it is a trial's, which lasts as long as the process works on it."""
        if connection is not self._shared:
            connection.finish(exit_code)

    def _chosen(self) -> Mode:
        """Online only if that is wanted and will work; found out once."""
        if self._mode is None:
            self._mode = "offline" if self.config.logging.wandb.mode == "offline" else "online"
            if self._mode == "online" and (why := why_offline(_base_url())):
                warn(f"W&B continues offline: {why}")
                self._mode = "offline"
        return self._mode


class StageTracking:
    """What a stage sends to W&B; its run is opened when there is something to send.

    Args:
        tracking: the experiment's; None tracks nothing.
        name: the stage.
        used: the results that it reads, by name.
    """

    def __init__(self, tracking: Tracking | None, name: str = "", used: Mapping[str, Result] | None = None) -> None:
        self._tracking = tracking
        self._name = name
        self._used = dict(used or {})
        self._connection: Connection | None = None
        self._id: str | None = None  # of its W&B run, which stays the same where opening failed once

    def __enter__(self) -> StageTracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes the stage's W&B run, as failed if the stage did."""
        if self._tracking is not None and self._connection is not None:
            self._tracking.close(self._connection, _exit_code(error))
            self._connection = None

    def loggers(self, folder: Path) -> tuple[list[Logger], list[Callback]]:
        """Lightning's logger and what else a training needs for W&B; nothing where nothing is tracked.

        Args:
            folder: the stage's work folder, which remembers the id of the W&B run over interruptions.
        """
        connection = self._open(folder / SCRATCH / _ID)
        if connection is None or self._tracking is None:
            return [], []
        from dig.tracking.logger import EffectiveValues

        logger = _logger(connection, self._tracking, self._name, folder)
        return [logger], [EffectiveValues(connection, self._tracking.config, self._name)]

    def built(self, folder: Path, cached: bool) -> None:
        """Sends what a finished stage left.

        Args:
            folder: the artifact's.
            cached: whether it was there before, and so was sent before, too.
        """
        if self._tracking is None or not self._tracking.wanted:
            return
        made = self._tracking.finished(self._name, folder, self._used)
        if cached or (made is None and self._id is None and self._connection is None):
            return
        late = self._connection is None
        connection = self._open(self._tracking.run / "wandb" / f"{_ID}.{self._name}.{folder.name}")
        if connection is None:
            return
        if late and any((folder / "logs").glob("*/metrics.csv")):  # W&B could not be opened when the training began
            _logger(connection, self._tracking, self._name, folder)
        log_stage(connection, self._name, folder, shared=self._tracking.trial is not None)
        run = self._tracking.run
        for result, used in [*((each, True) for each in self._used.values()), *([(made, False)] if made else [])]:
            connection.attempt(f"the artifact {result.name}", declaration(result, run, used))

    def _open(self, id_file: Path) -> Connection | None:
        if self._connection is None and self._tracking is not None and self._tracking.wanted:
            if self._id is None and not self._tracking.trial:
                self._id = kept_id(id_file, self._name)
            self._connection = self._tracking.open(self._name, self._id)
        return self._connection


NOT_TRACKED = StageTracking(None)
"""Sends nothing."""


def _logger(connection: Connection, tracking: Tracking, stage: str, folder: Path) -> StageLogger:
    """A logger whose W&B run holds what the stage's own logs hold by now."""
    from dig.tracking.logger import StageLogger

    logger = StageLogger(connection, stage if tracking.trial else "")
    if not tracking.trial:
        records, logs = tracking.run / "wandb", folder / "logs"
        connection.attempt("what W&B had not seen", lambda run: logger.catch_up(records, logs))
    return logger


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _base_url() -> str:
    from wandb.sdk import wandb_setup

    return str(wandb_setup.singleton().settings.base_url)
