"""open_clip models: by pretrained tag, by checkpoint, or a small one of your own from scratch."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dig.config.errors import UserError
from dig.config.schema import VisualConfig
from dig.embeddings.locate import check_architecture, clip_fingerprint, needs_quick_gelu
from dig.engine.console import warn

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ClipModel", "load_clip", "save_clip"]

_CONFIG, _WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_TEXTS = 256
"""Texts encoded at a time."""
_STRIP = 64
"""Pictures longer than this many times their width are cut to it before they are scaled."""


@dataclass
class ClipModel:
    """An open_clip model with what belongs to it.

    Attributes:
        model: the two towers.
        preprocess: turns a Pillow image into the tensor that the model wants.
        tokenize: turns texts into token ids ``(texts, context)``.
        model_config: the architecture, in open_clip's terms.
    """

    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    tokenize: Callable[[list[str]], Tensor]
    model_config: dict[str, Any]

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.model_config["embed_dim"])

    @property
    def temperature(self) -> float:
        """Factor of the cosines between pictures and texts, as the model was trained with it."""
        return float(self.model.logit_scale.detach().exp())  # type: ignore[operator]

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """``(batch, dim)`` of length 1 of preprocessed pictures ``(batch, channels, height, width)``."""
        vectors: Tensor = self.model.encode_image(pixels)  # type: ignore[operator]
        return F.normalize(vectors.float(), dim=1)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """``(texts, dim)`` of length 1, on the CPU."""
        self.model.eval()
        device = next(self.model.parameters()).device
        vectors = [
            F.normalize(self.model.encode_text(self.tokenize(list(texts[at : at + _TEXTS])).to(device)).float(), dim=1)  # type: ignore[operator]
            for at in range(0, len(texts), _TEXTS)
        ]
        return torch.cat(vectors).cpu() if vectors else torch.empty(0, self.dim)


def load_clip(config: VisualConfig) -> ClipModel:
    """The model of ``visual.model``, ``visual.pretrained`` and ``visual.config``.

    Checkpoints that are not safetensors go through torch's restricted unpickler (weights only). Only a model of
    ``visual.config`` or with ``visual.pretrained=scratch`` starts from random weights. Weights of a tag get the
    activation that they were trained with, whatever the architecture's name says.

    Raises:
        UserError: when the model is unknown, cannot be had here, has no weights, or its checkpoint is of another
            architecture.
    """
    import open_clip

    if config.model is None:
        raise UserError("visual.model is not set")
    own = config.config if config.from_scratch else None
    architecture = config.model.replace("/", "-")
    if own and architecture in open_clip.list_models():
        raise UserError(
            f"visual.model={config.model} is an architecture of open_clip, and visual.config (of a parent "
            "experiment?) describes another; name visual.pretrained, or give your own another name",
            exit_code=2,
        )
    if own:
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / _CONFIG).write_text(json.dumps({"model_cfg": own, "preprocess_cfg": {}}))
            return _create(config, f"local-dir:{name}", None, own)
    if ":" in config.model:
        clip_fingerprint(config)  # names a folder that is not there, or that holds no weights
        schema, _, place = config.model.partition(":")
        return _create(config, f"{schema}:{Path(place).expanduser()}" if schema == "local-dir" else config.model, None)
    check_architecture(config)
    if config.from_scratch:
        return _create(config, architecture, None)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    by_file = Path(config.pretrained or "").expanduser().is_file()
    if by_file and (others := _trained_otherwise(architecture, tags)):
        warn(
            f"visual.pretrained={config.pretrained}: a file of weights does not say how its model was trained; "
            f"visual.model={config.model} is taken at its word. Published weights of it that need something else: "
            f"{others}. If these are such, name the tag, or a folder with their open_clip_config.json "
            "(visual.model=local-dir:…)"
        )
    return _create(config, architecture, config.pretrained)


def save_clip(clip: ClipModel, folder: Path) -> None:
    """Writes weights, architecture and preprocessing so that ``visual.model=local-dir:<folder>`` reads them."""
    from open_clip import get_model_preprocess_cfg

    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": clip.model_config, "preprocess_cfg": get_model_preprocess_cfg(clip.model)}
    (folder / _CONFIG).write_text(json.dumps(content, indent=1))
    state = {name: value.detach().cpu().contiguous().clone() for name, value in clip.model.state_dict().items()}
    save_file(state, folder / _WEIGHTS)
    words: Any = getattr(clip.tokenize, "tokenizer", None)  # a tokenizer of the Hub; open_clip carries its own
    if hasattr(words, "save_pretrained"):
        words.save_pretrained(folder)


def _create(config: VisualConfig, name: str, pretrained: str | None, own: dict[str, Any] | None = None) -> ClipModel:
    import open_clip

    where = f"visual.model={config.model}" + (f" visual.pretrained={config.pretrained}" if pretrained else "")
    file = None if pretrained is None else Path(pretrained).expanduser()
    on_disk = name.startswith("local-dir:") or (file is not None and file.is_file())
    quick_gelu = needs_quick_gelu(config)
    try:
        with _quiet():
            model, _, preprocess = open_clip.create_model_and_transforms(
                name,
                pretrained=str(file.absolute()) if file and file.is_file() else pretrained,
                weights_only=True,
                require_pretrained=not config.from_scratch,
                force_quick_gelu=quick_gelu,
            )
            architecture = own or open_clip.get_model_config(name) or {}
    except Exception as error:  # open_clip, the Hub and torch each fail in ways of their own
        raise UserError(_reason(where, on_disk, error)) from error
    if not architecture:
        raise UserError(f"{where}: open_clip gives no description of this architecture")
    if quick_gelu:
        architecture["quick_gelu"] = True
    # A folder's own settings may ask for its code to be run; ours come after them.
    hub_tokenizer = architecture.get("text_cfg", {}).get("hf_tokenizer_name")
    try:
        with _quiet():
            tokenize = open_clip.get_tokenizer(name, **({"trust_remote_code": False} if hub_tokenizer else {}))
    except Exception as error:  # transformers and the Hub each fail in ways of their own
        raise UserError(
            f"{where}: its tokenizer {hub_tokenizer or ''} cannot be loaded: {_first_line(error)}"
        ) from error
    if open_clip.get_model_preprocess_cfg(model)["resize_mode"] == "shortest":
        preprocess = partial(_scale_middle, preprocess)
    return ClipModel(model.eval(), preprocess, tokenize, architecture)


def _scale_middle(preprocess: Callable[[Image.Image], Tensor], picture: Image.Image) -> Tensor:
    """Scales only what a crop of the centre can show of a long strip; a pixel high and whole, 3,000 take 600 MB."""
    width, height = picture.size
    shorter, longer = sorted(picture.size)
    if longer > _STRIP * shorter:
        length = _STRIP * shorter + (longer - _STRIP * shorter) % 2  # its middle stays where it was, to the half pixel
        start = (longer - length) // 2
        end = start + length
        picture = picture.crop((start, 0, end, height) if width > height else (0, start, width, end))
    return preprocess(picture)


def _trained_otherwise(architecture: str, tags: Sequence[str]) -> str:
    """Published weights of an architecture that were trained otherwise than its name says, and how; often empty."""
    import open_clip

    usual = asdict(open_clip.transform.PreprocessCfg())
    quick_gelu = (open_clip.get_model_config(architecture) or {}).get("quick_gelu", False)
    needs: dict[str, list[str]] = {}
    for tag in tags:
        recipe = open_clip.get_pretrained_cfg(architecture, tag)
        if recipe.get("quick_gelu", False) and not quick_gelu:
            needs.setdefault("QuickGELU", []).append(tag)
        for name in ("mean", "std", "interpolation", "resize_mode"):
            if recipe.get(name, usual[name]) != usual[name]:
                needs.setdefault(f"{name} {recipe[name]}", []).append(tag)
    return "; ".join(f"{what} for {', '.join(which)}" for what, which in needs.items())


def _reason(where: str, on_disk: bool, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return f"{where}: the checkpoint is damaged, or holds pickled objects beside tensors, which are not loaded"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "TorchScript" in lines[0]:
        return f"{where}: the checkpoint is a TorchScript archive, which is a program and is not loaded; name the tag"
    wrong_settings = (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, AssertionError)
    if (isinstance(error, wrong_settings) and (not on_disk or "local-dir:" in where)) or (
        isinstance(error, OSError) and on_disk  # such as a text tower whose settings lie on the Hub
    ):
        return f"{where} cannot be loaded: {lines[0][:200]}"
    if on_disk or "state_dict" in lines[0]:
        detail = lines[1] if "state_dict" in lines[0] and len(lines) > 1 else lines[0]
        return f"{where}: the checkpoint is of another architecture, or damaged ({detail[:200]})"
    return (
        f"{where} is not on this machine and cannot be fetched ({lines[0][:160]}); offline: name a checkpoint file in "
        "visual.pretrained, a folder as visual.model=local-dir:…, or a visual.config with visual.adapt.epochs"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's log of every step; it writes to the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
