"""What lets Lightning's ``load_from_checkpoint`` rebuild a module: how it was made, as plain values in a checkpoint.

Beside the weights a checkpoint then holds numbers, texts and tensors under one key, nothing of a class of dig's, so it
is read with ``weights_only=True``. A language model is told by the small files of its folder (``config.json`` and the
tokenizer's), as bytes, and read as such a folder is.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dig.config import UserError
from dig.config.documents import read_json_mapping
from dig.config.schema import LoraConfig
from dig.engine.lazy import peft, transformers
from dig.generation.backbone import Backbone, IntRRBackbone, LanguageBackbone, checkpoint_activations, load_base
from dig.generation.intrr import IntRR, IntRRSizes
from dig.generation.lora import FrozenBase, add_lora, frozen_base, frozen_names
from dig.generation.sid_rows import ComposedRows, compose_rows
from dig.generation.tree_paths import without_adapters
from dig.generation.vocabulary import SidVocabulary, read_tokenizer, save_tokenizer
from dig.received.models import check_model_config, check_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "BASE",
    "MODULE",
    "check_base",
    "check_weights",
    "describe_backbone",
    "read_checkpoint",
    "rebuild_backbone",
    "rebuild_settings",
    "told_by",
]

MODULE = "dig_module"
"""The key of a checkpoint under which its module's making is."""
BASE = "dig_base"
"""The key of a checkpoint of adapters under which the model is named that they stand on, and that it does not hold."""
_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError)
_SHOWN = 3
Settings = TypeVar("Settings")


def read_checkpoint(path: str | Path | IO[bytes], stage: str, remedy: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """How the module of a checkpoint was made, with what its adapters stand on where that is left out, and its weights.

    Args:
        path: a checkpoint of Lightning, or a file that is open for reading.
        stage: what the module is of (``sft``, ``grpo``, ``tokenize``).
        remedy: what to do about a checkpoint that does not tell how its module was made.

    Raises:
        UserError: it is not a checkpoint of such a module.
    """
    name = getattr(path, "name", "the checkpoint") if hasattr(path, "read") else str(path)
    if isinstance(path, str | Path):
        if not Path(path).is_file():
            raise UserError(f"{name}: there is no such checkpoint")
        path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True if isinstance(path, Path) else None)
    except _UNREADABLE as error:
        raise UserError(f"{name} is not a readable checkpoint: {_first_line(error)}") from None
    if not isinstance(path, Path):
        path.seek(0)  # the caller reads it, too
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise UserError(f"{name} is not a checkpoint of Lightning: it has no state_dict")
    making = content.get(MODULE)
    if not isinstance(making, dict):
        raise UserError(f"{name} does not tell how its module was made, as checkpoints of earlier versions: {remedy}")
    if making.get("stage") != stage:
        raise UserError(f"{name} is a checkpoint of the stage {str(making.get('stage'))[:40]}, not of {stage}")
    return {**making, BASE: content.get(BASE)}, content["state_dict"]


def check_base(saved: Mapping[str, str] | None, base: FrozenBase | None, where: str) -> None:
    """Compares what a checkpoint's adapters stand on with what is there now.

    Args:
        saved: ``source`` and ``digest`` in the checkpoint; None where it holds all weights.
        base: of the model that takes the weights.
        where: for messages.

    Raises:
        UserError: they are different models.
    """
    if saved is None:
        return
    theirs = str(saved["source"])[:200]
    if base is None:
        raise UserError(
            f"{where}: the checkpoint holds adapters for {theirs} alone: pass a backbone with such adapters "
            "(dig.generation.lora.add_lora) and with base=frozen_base(model, source, new_rows)"
        )
    if base.digest != saved["digest"]:
        raise UserError(
            f"{where}: the checkpoint holds adapters for {theirs} alone, and {base.source} has other weights than that "
            "had (or another configuration); put the former files back, or remove the checkpoint to train anew"
        )


@contextmanager
def told_by(where: str) -> Iterator[None]:
    """What is wrong within is wrong with what a checkpoint tells, and becomes one line.

    Raises:
        UserError: anything is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever values that do not fit each other lead to
        raise UserError(
            f"{where}: what it tells of its module makes none: {type(error).__name__}: {_first_line(error)}"
        ) from None


def rebuild_settings(kind: type[Settings], content: Any, where: str) -> Settings:
    """A section of the configuration out of plain containers.

    Args:
        kind: the section's dataclass.
        content: what ``asdict`` made of it.
        where: for messages.

    Raises:
        UserError: a key is unknown, or of another type.
    """
    try:
        made: Settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), content))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise UserError(f"{where}: {kind.__name__}: {_first_line(error)}") from None
    return made


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """How a backbone is made, weights apart, in numbers, texts and tensors."""
    if isinstance(backbone, IntRRBackbone):
        return {"kind": "intrr", "sizes": asdict(backbone.model.sizes), "alignment": backbone.alignment}
    model: Any = without_adapters(backbone.model)
    with TemporaryDirectory() as name:
        folder = Path(name)
        model.config.save_pretrained(folder)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
        save_tokenizer(backbone.tokenizer, folder, backbone.vocabulary)
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {
        "kind": "language",
        "files": {name: torch.frombuffer(bytearray(content), dtype=torch.uint8) for name, content in files.items()},
        "sizes": list(backbone.vocabulary.sizes),
        "from_scratch": backbone.from_scratch,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "gradient_checkpointing": any(getattr(each, "gradient_checkpointing", False) for each in model.modules()),
        "composed": _composed(model),
        "lora": _lora(backbone.model),
    }


def rebuild_backbone(
    content: Mapping[str, Any], state: Mapping[str, Tensor], where: str, base: Mapping[str, str] | None = None
) -> Backbone:
    """A backbone as :func:`describe_backbone` tells it, its weights still to be loaded.

    Args:
        content: the description.
        state: the weights by name, for what only they tell.
        where: for messages.
        base: where the weights are that the state leaves out, which are then loaded; None where it has all.

    Raises:
        UserError: the description is not one, the weights are of another model, or the base is not there.
    """
    if content["kind"] != "intrr":
        return _language(content, state, where, base)
    sizes, shape = rebuild_settings(IntRRSizes, content["sizes"], where), state["codes"].shape
    with torch.device("meta"):
        check_weights(IntRR(torch.zeros(shape, dtype=torch.int64), sizes), state, where)
    return IntRRBackbone(IntRR(torch.zeros(shape, dtype=torch.int64), sizes), float(content["alignment"]))


def check_weights(module: nn.Module, state: Mapping[str, Tensor], where: str, left_out: Iterable[str] = ()) -> None:
    """Compares a module's tensors with those that it is going to load.

    Args:
        module: as it would be made; it may lie on the device ``meta``.
        state: by name.
        where: for messages.
        left_out: names that may be missing.

    Raises:
        UserError: one is missing or has another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    optional = {name for name in left_out if name not in state}
    shapes = {name: shape for name, shape in shapes.items() if name not in optional}
    wrong = [name for name, shape in shapes.items() if name not in state or tuple(state[name].shape) != shape]
    wrong += [name for name in state if name not in shapes]
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (", …" if len(wrong) > _SHOWN else "")
        raise UserError(f"{where}: its weights are not those of the module that it tells of: {shown}")


def _language(
    content: Mapping[str, Any], state: Mapping[str, Tensor], where: str, base: Mapping[str, str] | None
) -> LanguageBackbone:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, bytes_of in content["files"].items():
            if Path(file).name != file:
                raise UserError(f"{where}: {file[:60]!r} is not the name of a file of a model")
            (folder / file).write_bytes(bytes_of.numpy().tobytes())
        try:
            check_model_config(folder / "config.json")
        except UserError as error:
            raise UserError(str(error).replace(str(folder), where)) from None
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        settings = folder / "generation_config.json"
        generation = (
            transformers.GenerationConfig.from_dict(read_json_mapping(settings)) if settings.is_file() else None
        )
        tokenizer = read_tokenizer(folder)[0]
    vocabulary = SidVocabulary.of(tokenizer, list(content["sizes"]))

    dtype = getattr(torch, content["dtype"])
    lora = None if content["lora"] is None else dict(content["lora"])
    rows = lora.pop("new_rows") if lora else None

    def make(model: Any = None) -> Any:
        if model is None:
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=dtype)
        if content["composed"] is not None:
            _compose(model, content["composed"])
        return model if lora is None else add_lora(model, rebuild_settings(LoraConfig, lora, where), rows)

    with torch.device("meta"):
        check_weights(empty := make(), state, where, frozen_names(empty) if base else ())
    frozen = None
    if base is None:
        model = make()
    else:
        model = make(load_base(str(base["source"]), config.get_text_config().vocab_size, dtype, where))
        frozen = frozen_base(model, str(base["source"]), rows or ())
        check_base(base, frozen, where)
    causal: Any = without_adapters(model)
    if generation is not None:
        causal.generation_config = generation
    check_vocabulary(Path(where), causal, int(vocabulary.ids.max()), tokenizer)
    if content["gradient_checkpointing"]:
        checkpoint_activations(model)
    return LanguageBackbone(model, vocabulary, tokenizer, bool(content["from_scratch"]), frozen)


def _composed(model: Any) -> dict[str, Any] | None:
    """What composed rows are made of, where there are any."""
    embedding = model.get_input_embeddings()
    if not parametrize.is_parametrized(embedding, "weight"):
        return None
    composed: Any = embedding.parametrizations["weight"][0]
    return {"codes": composed.codes.cpu(), "first": composed.first, "sizes": [len(level) for level in composed.rows]}


def _compose(model: Any, content: Mapping[str, Any]) -> None:
    table = model.get_input_embeddings().weight
    rows = [torch.zeros(size, table.shape[1], device=table.device, dtype=table.dtype) for size in content["sizes"]]
    codes = content["codes"].to(table.device, torch.int64)
    compose_rows(model, ComposedRows(rows, codes, int(content["first"])))


def _lora(model: nn.Module) -> dict[str, Any] | None:
    """The adapters' settings as the configuration has them, and the rows that are trained beside them."""
    if not isinstance(model, peft.PeftModel):
        return None
    config: Any = model.peft_config[model.active_adapter]
    rows = config.trainable_token_indices
    return {
        "enabled": True,
        "rank": int(config.r),
        "alpha": int(config.lora_alpha),
        "dropout": float(config.lora_dropout),
        "targets": config.target_modules if isinstance(config.target_modules, str) else sorted(config.target_modules),
        "new_rows": [int(row) for row in next(iter(rows.values()))] if rows else None,
    }


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
