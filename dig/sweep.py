"""``dig sweep FILE [experiment=NAME] [key=value …]``: a sweep in W&B's format, without an account."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dig.config.arguments import asks_help
from dig.engine.entry import exit_code
from dig.sweeps.request import read_request, sweep_options

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 a trial failed, 2 wrong arguments or configuration, 130 interrupted."""
    return exit_code(
        _run, arguments, "free some, then the same command resumes", "interrupted; the same command resumes from here"
    )


def _run(arguments: list[str]) -> int:
    if asks_help(arguments):
        return sweep_options().show_help()
    request = read_request(arguments)
    from dig.sweeps.check import check_trials
    from dig.sweeps.settings import load_settings

    settings = load_settings(request.file, request.arguments, request.trials)
    if not request.worker:  # who started it has looked
        check_trials(settings)
    from dig.sweeps.run import run_sweep  # torch and Optuna are imported here, after all cheap errors

    return run_sweep(settings, request)


if __name__ == "__main__":
    sys.exit(main())
