"""``dig data inspect|validate|convert|init TARGET [key=value …]``: look at data before training on them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from dig.config import Config, UserError, load_config
from dig.config.arguments import Options, asks_help, path, split_command
from dig.config.schema import DataConfig
from dig.engine.console import messages_to_stderr
from dig.engine.entry import exit_code
from dig.engine.secrets import shown_override

__all__ = ["main"]

_USAGE = "dig data COMMAND TARGET [data.key=value …] [--flag]"
_ABOUT = """\
TARGET is an experiment's name (beauty, gift_cards, quickstart), its YAML file, or a folder with data.

  inspect    numbers, distributions and samples; histograms also as PNG files in --out (default runs/data/NAME)
  validate   every problem at once; exit code 1 if any of them costs rows
  convert    any source to the interchange tables in --out
  init       instead of a TARGET two tables, such as sales.csv films.csv: writes an experiment's YAML file with guessed
             columns to --out (default shop.yaml), and says what was guessed; --dry-run prints it

Keys are those of the section `data`, see dig train --help."""
_COMMANDS = ("inspect", "validate", "convert", "init")


def _options() -> Options:
    options = Options(_USAGE, _ABOUT, "Exit codes: 0 done, 1 failed or problems found, 2 wrong arguments.")
    options.value("--out", "PATH", "where to write", "inspect", "convert", "init", read=path)
    options.switch(
        "--json", "print one JSON object; what is said meanwhile goes to the standard error", "inspect", "validate"
    )
    options.switch("--overwrite", "replace what is there", "convert", "init")
    options.switch("--dry-run", "print the experiment's file, and write nothing", "init")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed or problems found, 2 wrong arguments, 130 interrupted."""
    return exit_code(_run, arguments, "free some, or name another --out", "interrupted")


def _run(arguments: list[str]) -> int:
    options = _options()
    if asks_help(arguments):
        return options.show_help()
    command, rest = split_command(arguments, _COMMANDS)
    given, words = options.read(rest, command)
    targets, overrides = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    if command == "init":
        return _init(targets, overrides, given.out or Path("shop.yaml"), given.overwrite, given.dry_run)
    if len(targets) != 1:
        raise UserError(f"{command} needs one target, an experiment or a folder; it got {len(targets)}", exit_code=2)
    target = targets[0]
    name, config, training = _resolve(target, overrides)
    from dig import data_commands  # polars is imported here, after all cheap errors

    with messages_to_stderr() if given.json else nullcontext():
        if command == "inspect":
            return data_commands.inspect(name, config, given.out or Path("runs") / "data" / name, training, given.json)
        if command == "validate":
            return data_commands.validate(config, training, given.json)
    if given.out is None:
        raise UserError("convert needs --out FOLDER", exit_code=2)
    return data_commands.convert(config, given.out, given.overwrite)


def _init(files: list[str], overrides: list[str], out: Path, overwrite: bool, dry_run: bool) -> int:
    if len(files) != 2:
        raise UserError(f"init needs two tables, such as sales.csv films.csv; it got {len(files)}", exit_code=2)
    others = [override for override in overrides if not override.startswith("data.encoding=")]
    if others:
        raise UserError(
            f"{shown_override(others[0])}: init takes only data.encoding=…; write other keys into the file",
            exit_code=2,
        )
    encoding = load_config(None, ["data.path=.", *overrides]).data.encoding
    from dig.data_init import init

    return init(files, out, overwrite, dry_run, encoding)


def _resolve(target: str, overrides: list[str]) -> tuple[str, DataConfig, Config | None]:
    """A name for the data, their configuration, and the experiment that they are for, if one is named."""
    folder = Path(target).expanduser()
    if not folder.is_dir():
        training = load_config(target, overrides)
        return Path(target).stem, training.data, training
    from datamodules.sources import detect_source

    given = {override.partition("=")[0] for override in overrides}
    named = "data.source" in given or any(key.startswith("data.files") for key in given)  # these are for tables
    source = [] if named else [f"data.source={detect_source(folder)}"]
    return folder.resolve().name, load_config(None, [f"data.path={folder}", *source, *overrides]).data, None


if __name__ == "__main__":
    sys.exit(main())
