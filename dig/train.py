"""``python -m dig.train experiment=NAME [key=value …]``: the whole pipeline, or the stages asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dig.config import Config, UserError, load_config
from dig.config.explain import config_yaml, help_text
from dig.entry import exit_code
from dig.launch import end_with_launcher, needs_ranks, run_ranks

__all__ = ["main"]

_FLAGS = ("--help", "-h", "--print-config", "--dry-run")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed, 2 wrong arguments or configuration, 130 interrupted."""
    return exit_code(_run, arguments, "free some, then the same command goes on",
                     "interrupted; the same command goes on from here")  # fmt: skip


def _run(arguments: list[str]) -> int:
    flags = [argument for argument in arguments if argument.startswith("-")]
    unknown = [flag for flag in flags if flag not in _FLAGS]
    if unknown:
        raise UserError(f"{unknown[0]}: no such flag; there are {', '.join(_FLAGS)}", exit_code=2)
    if not arguments or {"--help", "-h"} & set(flags):
        print(help_text())
        return 0
    config = _config([argument for argument in arguments if argument not in flags])
    if "--print-config" in flags:
        print(config_yaml(config), end="")
        return 0
    from dig.pipeline import describe, run_experiment  # torch is imported here, after all cheap errors

    if "--dry-run" in flags:
        from dig.console import console

        console.print(describe(config))
        return 0
    ranks = needs_ranks(config)
    if ranks:
        return run_ranks("dig.train", arguments, ranks)
    end_with_launcher()
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
