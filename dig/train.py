"""``dig train experiment=NAME [key=value …]``: the whole pipeline, or the stages asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dig.config import Config, load_config
from dig.config.arguments import asks_help
from dig.config.explain import config_yaml, help_text, train_options
from dig.engine.entry import exit_code
from dig.engine.launch import end_with_launcher, needs_ranks, run_ranks
from dig.engine.machine import check_processes
from dig.engine.ranks import launched
from dig.engine.signals import watched
from dig.slurm.job import current_job
from dig.slurm.placing import check_submission, place, to_submit
from dig.slurm.submit import job_script, submit

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs or submits. Codes: 0 done, 1 failed, 2 wrong arguments or configuration, 75 told to end, 130 Ctrl-C."""
    return exit_code(
        _run, arguments, "free some, then the same command resumes", "interrupted; the same command resumes from here"
    )


def _run(arguments: list[str]) -> int:
    if asks_help(arguments):
        print(help_text())
        return 0
    flags, settings = train_options().read(arguments)
    config = _config(settings)
    submits = to_submit(config)
    check_submission(config, settings)
    place(config)
    if flags.print_config:
        if not submits and config.trainer.accelerator == "cpu" and not launched():
            check_processes(config)
        print(config_yaml(config), end="")
        return 0
    if submits:
        if flags.dry_run:
            print(job_script(config, settings, Path.cwd()), end="")
        else:
            submit(config, settings)
        return 0
    if not flags.dry_run:
        if config.trainer.devices != 1 and not launched():
            from dig.stages.start import check_start

            check_start(config)  # before a process is started for each
        ranks = needs_ranks(config)
        return run_ranks("dig.train", arguments, ranks) if ranks else _train(config)
    from dig.engine.console import console
    from dig.engine.pipeline import describe  # torch is imported here, after all cheap errors

    console.print(describe(config))
    return 0


def _train(config: Config) -> int:
    end_with_launcher()
    with watched(config.slurm.grace, config.slurm.requeue):  # from the first moment: imports take a while
        from dig.engine.pipeline import run_experiment, shared_folders

        job = current_job()
        if job is not None:
            from dig.slurm.rank_check import check_ranks

            check_ranks(job, config.slurm, shared_folders(config))
        run_experiment(config)
    return 0


def _config(arguments: list[str]) -> Config:
    experiment = None
    overrides = []
    for argument in arguments:
        if argument.startswith("experiment="):
            experiment = argument.partition("=")[2]
        else:
            overrides.append(argument)
    return load_config(experiment, overrides)


if __name__ == "__main__":
    sys.exit(main())
