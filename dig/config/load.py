"""From names, files and ``key=value`` arguments to one validated :class:`Config`.

Order: schema defaults < extended files < the experiment < arguments. Every layer is checked against the schema
on its own, so that an error names the file or argument it came from. Nothing here imports torch.
"""

from __future__ import annotations

import copy
import functools
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from dig.config.documents import YAML_BYTES, check_yaml, read_text
from dig.config.errors import UserError, nearest
from dig.config.recommenders import is_recommender_name
from dig.config.renamed import modernised, name_today, old_keys
from dig.config.schema import RECOMMENDERS, REGISTRY, Config
from dig.config.sections.checks import choice_problem, choices_in
from dig.engine.secrets import free_secret, is_sensitive, secret_in, shown_key, shown_override, shown_value

__all__ = [
    "config_to_dict",
    "experiments_folder",
    "key_type",
    "list_experiments",
    "load_config",
    "load_run_config",
    "named_section",
    "provided",
    "refuse_secrets",
    "schema_keys",
]

_PROJECT = Path(__file__).resolve().parents[2]
_PACKAGE = Path(__file__).resolve().parents[1]
_ENV = re.compile(r"\$\{oc\.env:([A-Za-z0-9_]+)(?:,[^${}]*)?\}")
_OTHERS = 12
"""References to other keys at most, in all files and arguments together."""
_KEY = re.compile(r"[\w.*/-]{1,200}")
_OTHER_KEY = re.compile(r"\$\{[\w.\[\]-]+\}")
_OWN_KEYS = re.compile(
    r"(?:(?:backbone|visual)\.config|data\.columns|grpo\.reward\.extra|mining\.models\..+?\.extra)\.(.+)", re.DOTALL
)
_FREE = (
    "backbone.config",
    "data.columns",
    "grpo.reward.extra",
    "mining.models.*.extra",
    "mining.models.*.headers",
    "visual.config",
)
"""Sections whose keys are the user's own."""


@dataclass(frozen=True)
class _Layer:
    """A part of the configuration and where it came from."""

    origin: str
    content: DictConfig


def experiments_folder() -> Path:
    """The folder of the experiments that come with the project."""
    return provided("experiments")


def provided(name: str) -> Path:
    """A file or folder that comes with the project: within the package where it is installed, else at its root.

    Args:
        name: relative, such as ``experiments`` or ``sweeps/codebook.yaml``; it need not exist.
    """
    installed = (_PACKAGE / "experiments").is_dir()
    return (_PACKAGE if installed else _PROJECT) / name


def list_experiments() -> list[str]:
    """Names that ``experiment=`` takes, in order."""
    roots = {Path("experiments").resolve(), experiments_folder()}
    files = (path.relative_to(root).with_suffix("") for root in roots for path in root.rglob("*.yaml"))
    return sorted({name.as_posix() for name in files})


def schema_keys(schema: type = Config, prefix: str = "") -> Iterator[str]:
    """All dotted keys of the schema, sections included; `*` stands for a name of the user's choice."""
    hints = get_type_hints(schema)
    for entry in fields(schema):
        yield prefix + entry.name
        if is_dataclass(hints[entry.name]):
            yield from schema_keys(hints[entry.name], f"{prefix}{entry.name}.")
        elif named := named_section(hints[entry.name]):
            yield f"{prefix}{entry.name}.*"
            yield from schema_keys(named, f"{prefix}{entry.name}.*.")


def key_type(key: str) -> Any:
    """What a dotted key takes, without None where it may be unset; None for a key that the schema does not know."""
    hint: Any = Config
    for part in key.split("."):
        if get_origin(hint) is dict:
            hint = get_args(hint)[1]
        elif is_dataclass(hint) and isinstance(hint, type):
            hint = get_type_hints(hint).get(part)
        else:
            return None
    union = get_origin(hint) in (Union, UnionType)  # the former is what an annotated type with None becomes
    choices = [each for each in get_args(hint) if each is not type(None)] if union else []
    return choices[0] if len(choices) == 1 else hint


def named_section(hint: Any) -> type | None:
    """The schema of a section that exists once a name of the user's choice (`dict[str, Section]`), else None."""
    arguments = get_args(hint)
    named = get_origin(hint) is dict and isinstance(arguments[1], type) and is_dataclass(arguments[1])
    return arguments[1] if named else None


def load_config(experiment: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Loads, merges and validates an experiment.

    Args:
        experiment: a name under ``experiments/`` or the path of a YAML file; None starts from the schema's defaults.
        overrides: ``key=value`` strings; values are YAML.

    Raises:
        UserError: with exit code 2, for an unknown key, a wrong type or an impossible combination.
    """
    layers = []
    name = "custom"
    if experiment is not None:
        path = _find_experiment(str(experiment), asked_by=shown_override(f"experiment={experiment}"))
        name = path.stem
        layers = list(_with_parents(path))
    return _merged(name, [*layers, *(_argument_layer(override) for override in overrides)])


def load_run_config(run: Path) -> Config:
    """The configuration that a run has left in its folder, which may come from anybody: complete, and all filled in.

    Args:
        run: the folder.

    Raises:
        UserError: as :func:`load_config`, or it refers to something else.
    """
    path = run / "config.yaml"
    content = modernised(_read_yaml(path))
    referring = ["extends"] if "extends" in content else [key for key, text in _strings(content) if "${" in text]
    if referring:
        raise UserError(
            f"{_shown(path)}: {referring[0]}: the configuration of a run is complete and refers to nothing "
            "else; the same dig.train command writes it again",
            exit_code=2,
        )
    return _merged(run.name, [_Layer(_shown(path), OmegaConf.create(_installed_part(run, content)))])


def _installed_part(run: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What a run says without the recommenders that it has trained and that no installed package registers.

    Only names of installed packages are looked up: nothing of the run is imported.
    """
    listed = content.get("baselines")
    absent = [
        name
        for name in (listed if isinstance(listed, list) else [])
        if isinstance(name, str)
        and is_recommender_name(name)
        and name not in _known_keys()
        and name not in RECOMMENDERS
        and (run / "checkpoints" / name).is_dir()
    ]
    if not absent:
        return content
    wrong = "".join(f" ({REGISTRY.broken[name]})" for name in absent if name in REGISTRY.broken)
    _warn(f"{run} has recommenders of packages that are not installed here: {', '.join(absent)}; left out{wrong}")
    left = {key: value for key, value in content.items() if key not in absent}
    for key in {"baselines", "stages"} & {key for key, value in left.items() if isinstance(value, list)}:
        left[key] = [name for name in left[key] if name not in absent]
    return left


@functools.cache
def _warn_of_broken() -> None:
    """Once in a process, and of all ranks by the first."""
    if all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        for line in REGISTRY.broken.values():
            _warn(f"{line}; it is left out")


def _warn(message: str) -> None:
    from dig.engine.console import messages_to_stderr, warn  # rich takes a while to import

    with messages_to_stderr():  # the standard output may be for a program
        warn(message)


def _merged(name: str, layers: list[_Layer]) -> Config:
    merged = copy.deepcopy(_defaults())
    OmegaConf.update(merged, "experiment", name)
    for layer in layers:
        _check_secrets(layer)
        _check_keys(layer, _known_keys())
        _merge(merged, layer)
    _check_environment(merged, layers)
    _check_secrets(_Layer("the configuration", merged))
    _check_finite(merged, layers)
    _check_elements(Config, OmegaConf.to_container(merged))
    _check_named(merged)
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Config)  # noqa: S101 - tells the type checker what to_object returns
    _warn_of_broken()
    return config


def _check_elements(schema: type, content: Any, before: str = "") -> None:
    """Lists and mappings of texts or numbers hold no further lists, which OmegaConf lets through in some places."""
    for name, hint in _hints(schema).items():
        key, value = f"{before}{name}", content.get(name)
        below = named_section(hint)
        if not isinstance(value, dict | list):
            continue
        if is_dataclass(hint) and isinstance(hint, type):
            _check_elements(hint, value, f"{key}.")
        elif below is not None and isinstance(value, dict):
            for chosen, section in value.items():
                _check_elements(below, section or {}, f"{key}.{chosen}.")
        else:
            union = get_origin(hint) in (Union, UnionType)
            kinds = [each for each in get_args(hint) if get_origin(each)] if union else [hint]
            plain = kinds and all(get_args(each)[-1:] in ((str,), (int,), (float,), (bool,)) for each in kinds)
            values = list(value.values()) if isinstance(value, dict) else value
            if plain and any(isinstance(each, dict | list) for each in values):
                raise UserError(f"{key}: holds a list or a mapping where one text or number belongs", exit_code=2)


@functools.cache
def _hints(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


def _check_named(merged: DictConfig) -> None:
    """Makes the sections that have a name of the user's choice one by one: they do not know it, and errors tell it."""
    for name, section in (merged.mining.models or {}).items():
        try:
            OmegaConf.to_object(section)
        except UserError as error:
            raise UserError(str(error).replace("mining.models.*", f"mining.models.{name}"), error.exit_code) from None


@functools.cache
def _defaults() -> DictConfig:
    """The schema with its defaults; a copy takes a sixth of the time of making it."""
    made = OmegaConf.structured(Config)
    assert isinstance(made, DictConfig)  # noqa: S101 - tells the type checker what structured returns
    return made


@functools.cache
def _known_keys() -> frozenset[str]:
    return frozenset(schema_keys())


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration, or a section of it, as plain containers.

    A configuration lacks the sections of installed recommenders that it does not measure: what is kept of a run, and
    what names its folder, is the same whatever else is installed.
    """
    content = asdict(config)
    if isinstance(config, Config):
        for name, spec in RECOMMENDERS.items():
            if spec.package is not None and name not in config.baselines:
                content.pop(name, None)
    return content


def _find_experiment(name: str, asked_by: str, beside: Path | None = None) -> Path:
    candidates = [Path(name)] if name.endswith((".yaml", ".yml")) else []
    roots = [Path("experiments"), experiments_folder()]
    if beside is not None:
        roots.insert(0, beside)
    candidates += [root / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml") for root in roots]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    names = list_experiments()
    hint = nearest(name, names)
    advice = f"did you mean {hint}?" if hint else f"there are: {', '.join(names)}"
    raise UserError(f"{asked_by}: no such experiment; {advice}", exit_code=2)


def _with_parents(path: Path, seen: tuple[Path, ...] = ()) -> Iterator[_Layer]:
    if path in seen:
        chain = " -> ".join(step.stem for step in (*seen, path))
        raise UserError(f"{_shown(path)}: `extends` runs in a circle: {chain}", exit_code=2)
    content = _read_yaml(path)
    if path.name == "config.yaml" and any((path.parent / each).is_file() for each in ("metrics.json", "items.parquet")):
        content = modernised(content)
    parent = content.pop("extends", None)
    if parent is not None:
        asked_by = f"{_shown(path)}: extends: {shown_value(str(parent))}"
        yield from _with_parents(_find_experiment(str(parent), asked_by, beside=path.parent), (*seen, path))
    yield _Layer(_shown(path), OmegaConf.create(content))


def _read_yaml(path: Path) -> dict[str, Any]:
    check_yaml(read_text(path, YAML_BYTES, exit_code=2), _shown(path), 2, config=True)
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{_shown(path)}:{mark.line + 1}" if mark is not None else _shown(path)
        raise UserError(f"{where}: not YAML: {getattr(error, 'problem', error)}", exit_code=2) from None
    except (OmegaConfBaseException, OSError, ValueError, OverflowError) as error:  # also a date of month 13
        raise UserError(f"{_shown(path)}: cannot be read: {_first_line(error)}", exit_code=2) from None
    if not isinstance(content, dict):
        raise UserError(f"{_shown(path)}: must hold keys and values, not a {type(content).__name__}", exit_code=2)
    return {str(key): value for key, value in content.items()}


def _argument_layer(override: str) -> _Layer:
    """The layer of an argument; what no configuration can hold is refused without being quoted."""
    key, _, value = override.partition("=")
    if not key.isprintable():
        shown = re.split(r"[:{,\"' ]", key)[0]
        raise UserError(f"{shown!r}: a key has no line breaks and other characters that cannot be shown", exit_code=2)
    try:
        value.encode()
        return _override_layer(override)
    except UnicodeEncodeError:  # bytes of a command line come as surrogates, which no file can hold
        raise UserError(f"{shown_key(key)}: the value is not UTF-8", exit_code=2) from None
    except (ValueError, RecursionError):  # of YAML's own readers of numbers and dates: !!int x, 5,000 digits
        what = "a number, a date or brackets beyond what can be read"
        raise UserError(f"{shown_key(key)}: the value is not YAML: {what}", exit_code=2) from None


def _override_layer(override: str) -> _Layer:
    key, separator, value = override.partition("=")
    shown = shown_override(override)
    if not separator or not key:
        hint = nearest(override, schema_keys())
        raise UserError(f"{shown}: arguments look like key=value{f', for example {hint}=…' if hint else ''}", 2)
    if key == "slurm.time" and ":" in override:  # YAML takes 10:00:00 for a number to the base of 60
        return _Layer(shown, OmegaConf.create({"slurm": {"time": value.strip("'\"")}}))
    if rule := secret_in(key, value):  # before anything else may quote it
        raise _secret_error("", key, rule)
    try:
        return _Layer(shown, OmegaConf.from_dotlist([override]))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        what = "" if shown != override else f": {_first_line(error)}"
        raise UserError(f"{shown}: the value is not YAML{what}", exit_code=2) from None


_NAMING = {"name", "key", "header", "field"}
_VALUED = {"value", "values", "val", "content"}


def refuse_secrets(origin: str, content: Any, every_key: bool = False) -> None:
    """Refuses what looks like a secret: configurations are written to disk, and so are the errors about them.

    Args:
        origin: the file or argument, for the error.
        content: its content as plain containers.
        every_key: whether all keys are of the user's choice, as in a sweep's parameters, and not only those of the
            sections that have such keys.

    Raises:
        UserError: with exit code 2, the key and the rule, and never the value.
    """
    for key, value in chain(_values(content), _named_values(content)):
        rule = secret_in(key, str(value))
        own = _OWN_KEYS.fullmatch(key)
        if rule is None and (own or every_key):
            rule = free_secret((own[1] if own else key).split("."), value, among_ours=not own)
        if rule:
            raise _secret_error(origin, key, rule)


def _check_secrets(layer: _Layer) -> None:
    refuse_secrets(layer.origin, OmegaConf.to_container(layer.content, resolve=False))


def _secret_error(origin: str, key: str, rule: str) -> UserError:
    shown = shown_key(key)
    where = shown if not origin or origin.startswith(f"{shown}=") else f"{origin}: {shown}"
    right = "export it in the environment, and name its variable where a key of the configuration takes one"
    if key.startswith("mining.models."):
        name = ".".join(shown.split(".")[:3])
        right = (
            f"name its environment variable: {name}.key=NAME, {name}.headers={{Authorization: env:NAME}}, or "
            f"{name}.base_url=env:NAME for an address that holds it"
        )
    elif key.startswith("data.mirrors"):
        right = "name the environment variable that holds the address: data.mirrors=[env:NAME]"
    elif key.startswith("slurm."):
        right = "export it before you submit, and the job is given it by name"
    elif key.startswith("logging.wandb"):
        right = "export it as WANDB_API_KEY, or run `wandb login`"
    return UserError(f"{where}: {rule}, which would be written to disk; {right}", exit_code=2)


def _check_keys(layer: _Layer, known: frozenset[str]) -> None:
    for key in _leaves(layer.content):
        prefixes, names = _prefixes(key.split("."), known)
        unknown = next((prefix for prefix in prefixes if prefix not in known), None)
        if unknown is None or any(prefixes[-1].startswith(f"{prefix}.") for prefix in _FREE):
            continue
        section = key.partition(".")[0]
        if (broken := REGISTRY.broken.get(section)) is not None:
            raise UserError(broken, exit_code=2)
        listed = OmegaConf.select(layer.content, "baselines")
        named = isinstance(listed, ListConfig) and section in listed and is_recommender_name(section)
        if named and section not in known:
            raise UserError(f"{layer.origin}: no installed package registers the recommender {section}", exit_code=2)
        today = name_today(unknown)
        names_of_both = {*known, *old_keys()}
        meant = key.lower() if key.lower() in names_of_both else nearest(unknown.lower(), names_of_both) or ""
        hint = name_today(meant) or meant
        for name in names:
            hint = hint.replace("*", name, 1)
        if not _KEY.fullmatch(key):  # a file of something else, which is not to be quoted
            raise UserError(f"{layer.origin.partition('=')[0]}: holds something else than keys of the configuration", 2)
        # Without its value: a misspelt key may hold what belongs into the environment.
        shown = key if layer.origin.startswith(f"{key}=") else f"{layer.origin}: {key}"
        if today is not None:
            raise UserError(f"{shown}: this key is {today} now", exit_code=2)
        raise UserError(f"{shown}: unknown key{f'; did you mean {hint}?' if hint else ''}", exit_code=2)


def _prefixes(parts: list[str], known: frozenset[str]) -> tuple[list[str], list[str]]:
    """A key cut after each of its parts, names of the user's choice as `*`, and these names."""
    prefixes: list[str] = []
    names: list[str] = []
    for part in parts:
        before = f"{prefixes[-1]}." if prefixes else ""
        chosen = f"{before}*" in known
        prefixes.append(f"{before}*" if chosen else f"{before}{part}")
        names += [part] if chosen else []
    return prefixes, names


def _leaves(content: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(content, DictConfig) and not content._is_none() and len(content):
        for key in content:
            yield from _leaves(content._get_node(key), f"{prefix}{key}.")
    elif prefix:
        yield prefix[:-1]


def _merge(base: DictConfig, layer: _Layer) -> None:
    """Lays a layer over the base, in place: a copy of the whole schema an override would cost more than all else."""
    try:
        base.merge_with(layer.content)
    except ValidationError as error:
        key = error.full_key or ""
        shown = layer.origin if not key or layer.origin.startswith(f"{key}=") else f"{layer.origin}: {key}"
        quiet = is_sensitive(key.rpartition(".")[2])
        value = OmegaConf.select(layer.content, key) if key else None
        if isinstance(value, str | int | float | None) and (choices := _choices(key)):
            raise UserError(f"{_assigned(layer.origin, key, value)} {choice_problem(value, choices)}", 2) from None
        raise UserError(f"{shown}: {'a value of the wrong type' if quiet else _told(error)}", exit_code=2) from None
    except OmegaConfBaseException as error:
        raise UserError(f"{layer.origin}: {_told(error)}", exit_code=2) from None


def _choices(key: str) -> tuple[str, ...]:
    """What a key may hold, or an element of a list such as ``key[1]``; empty where that is not a choice."""
    name, _, place = key.partition("[")
    hint = key_type(name)
    return choices_in(get_args(hint)[0] if place and get_origin(hint) is list else hint)


def _assigned(origin: str, key: str, value: object) -> str:
    """A value with its key, and its file unless an argument gave it."""
    return f"{'' if '=' in origin else f'{origin}: '}{key}={'null' if value is None else repr(value)}"


def _check_environment(merged: DictConfig, layers: list[_Layer]) -> None:
    """Resolves ``${oc.env:DIG_…}``; other variables stay out of configurations, which are written to disk."""
    references = 0
    for layer in layers:
        for key, text in _strings(OmegaConf.to_container(layer.content, resolve=False)):
            for variable in _ENV.findall(text):
                if not variable.startswith("DIG_") or is_sensitive(variable):
                    raise UserError(
                        f"{layer.origin}: {key}: only DIG_… variables may enter a configuration, since "
                        f"it is written to disk; {variable} may not",
                        exit_code=2,
                    )
            references += len(_OTHER_KEY.findall(text))
            if references > _OTHERS:  # ten keys that each name the next one twice are a thousand texts
                raise UserError(f"{layer.origin}: {key}: more than {_OTHERS} references ${{key}} to other keys", 2)
            if "${" in _OTHER_KEY.sub("", _ENV.sub("", text)):
                raise UserError(
                    f"{layer.origin}: {key}: only ${{key}} and ${{oc.env:DIG_NAME}} are filled in: only DIG_… "
                    "variables may enter a configuration, since it is written to disk",
                    exit_code=2,
                )
    try:
        OmegaConf.resolve(merged)
    except OmegaConfBaseException as error:
        text = _first_line(error)
        missing = re.search(r"Environment variable '([^']+)'", text)
        if missing:
            message = (
                f"the environment variable {missing[1]} is not set, and {error.full_key or 'a key'} needs it; "
                f"set it to the folder of the data, or set {error.full_key or 'the key'}=FOLDER"
            )
            raise UserError(message, exit_code=2) from None
        raise UserError(f"{error.full_key}: {text}", exit_code=2) from None


def _check_finite(merged: DictConfig, layers: list[_Layer]) -> None:
    """No key takes nan or infinity: they compare with no bound, and what they do shows hours later."""
    for key, value in _numbers(OmegaConf.to_container(merged)):
        if isinstance(value, float) and not math.isfinite(value):
            named = [layer.origin for layer in layers if OmegaConf.select(layer.content, key) is not None]
            where = next((origin for origin in reversed(named) if origin.startswith(f"{key}=")), None)
            shown = where or f"{named[-1]}: {key}" if named else key
            raise UserError(f"{shown}: must be a finite number, it is {value}", exit_code=2)


def _numbers(content: Any) -> Iterator[tuple[str, int | float]]:
    for key, value in _values(content):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield key, value


def _strings(content: Any) -> Iterator[tuple[str, str]]:
    for key, value in _values(content):
        if isinstance(value, str):
            yield key, value


def _values(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All values with their dotted keys; an element of a list has its list's, and None stands for an empty section."""
    if isinstance(content, dict) and (content or not prefix):
        for key, value in content.items():
            yield from _values(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(content, list):
        for value in content:
            yield from _values(value, prefix)
    else:
        yield prefix, None if isinstance(content, dict) else content


def _named_values(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values whose name stands beside them, as in ``{name: apikey, value: …}``, with that name as their key."""
    if isinstance(content, list):
        for value in content:
            yield from _named_values(value, prefix)
    elif isinstance(content, dict):
        names = [content[key] for key in _NAMING & content.keys() if isinstance(content[key], str)]
        for key, value in content.items():
            here = f"{prefix}.{key}" if prefix else str(key)
            if str(key).lower() in _VALUED and prefix:
                for name in names:
                    yield from _values(value, f"{prefix}.{name}")
            yield from _named_values(value, here)


def _told(error: BaseException) -> str:
    """What a library says of a value, which it quotes; of one with an inside no more than that it is wrong."""
    text = _first_line(error).partition(" value: ")[0]
    return "a value of the wrong type" if any(each in text for each in "{[") else text


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _shown(path: Path) -> str:
    for root in (Path.cwd(), _PROJECT):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return str(path)
