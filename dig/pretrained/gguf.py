"""A GGUF file turned into a plain folder of transformers, which can be trained, saved, merged and loaded again.

transformers loads GGUF itself, and leaves some of what the file says behind: how the tokenizer splits words, how much
the model reads, and that the weights are plain numbers again. All that can be known to fail is said from the header,
before a weight is read.
"""

from __future__ import annotations

import shutil
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from dig.config.errors import UserError, nearest
from dig.engine.artifacts import SCRATCH, ArtifactStore, fingerprint
from dig.engine.console import say, warn
from dig.engine.machine import available_memory, gigabytes
from dig.engine.ranks import global_rank
from dig.engine.weights import load_complete, without_bars
from dig.pretrained.splitting import mend_splitting
from dig.pretrained.tokens import read_as_written
from dig.received.gguf import GgufHeader

__all__ = ["INSTALL_GGUF", "check_gguf", "gguf_folder"]

_VERSION = 1
"""Of the conversion; a folder that another version made is not used."""
_KIND = "pretrained"
_WIDTH = 4
"""Bytes of a weight in the folder: float32, since a block's scale times a small number has no exact bfloat16."""
_PEAK = 2.5
"""Times the weights in memory while they are turned: read, sorted into the model, written."""
INSTALL_GGUF = "pip install gguf (or 'dig[offline-llm]', which brings it)"
_PARTS = {"adapter": "an adapter", "mmproj": "a projector of pictures", "imatrix": "an importance matrix"}
_REASON = 300
_TEXTS = ("A customer bought 12 items, and  reads: it's Ärger!\n\n Next: 3,456\tML  7", "THE END'S 1", " a\n 2")
"""That tokenizers read alike only if they split alike."""


def check_gguf(header: GgufHeader, where: str, chat: bool) -> None:
    """Refuses a file that cannot be turned into a model, by its header.

    Args:
        header: of the file.
        where: what names the model in messages.
        chat: whether a model is wanted that answers in turns.

    Raises:
        UserError: it holds no whole model, one of an unknown architecture, weights of a type that cannot be turned
            into numbers, is cut off, or has no chat template where one is wanted; or gguf is not installed.
    """
    path = header.path
    if chat and not header.text("tokenizer.chat_template"):
        raise UserError(f"{where}: {path} has no chat template; take a model that is made for chat")
    kind = header.text("general.type")
    if kind in _PARTS or not header.tensors:
        raise UserError(f"{where}: {path} holds {_PARTS.get(kind, 'no weights')}, not a language model")
    parts = header.metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise UserError(f"{where}: {path} is one of {parts} parts; llama.cpp's llama-gguf-split --merge joins them")
    if not isinstance(header.metadata.get("tokenizer.ggml.tokens"), int):
        raise UserError(f"{where}: {path} holds no tokenizer, which a language model here needs")
    _check_architecture(header, where)
    _check_weights(header, where)


def gguf_folder(header: GgufHeader, sha256: str, name: str, where: str) -> Path:
    """The folder that a file was turned into; it is made where it is not there.

    Args:
        header: of the file.
        sha256: of its bytes.
        name: what the file is called in messages.
        where: what names the model in messages.

    Raises:
        UserError: it cannot be turned, or memory or disk do not suffice.
    """
    origin = {"sha256": sha256, "converter": _VERSION, "name": name}
    key = fingerprint({each: origin[each] for each in ("sha256", "converter")})
    store = ArtifactStore()
    if not store.exists(_KIND, key):
        check_gguf(header, where, chat=False)
        _check_room(header, store, where)
        if global_rank() == 0:
            say(f"{where}: {name} is turned into a folder of transformers, once ({_millions(header)})")
    return store.get(_KIND, key, lambda folder: _convert(header, folder, where), origin).path


def _check_architecture(header: GgufHeader, where: str) -> None:
    """Refuses an architecture that transformers does not read from GGUF, or that does not write text."""
    names = _architectures()
    name = header.architecture
    if name not in names:
        hint = nearest(name, sorted(names)) if name else None
        raise UserError(
            f"{where}: {header.path} is of the architecture {name[:60]!r}, which transformers does not read from GGUF"
            + (f" (the nearest that it reads is {hint})" if hint else "")
            + "; name the folder of the same model in safetensors"
        )
    if "t5" in name:
        raise UserError(f"{where}: {header.path} is a {name}, which is not a causal language model")
    if "rope_freqs.weight" in header.tensors or header.text(f"{name}.rope.scaling.type") not in ("", "none"):
        raise UserError(
            f"{where}: {header.path} scales its positions (rope), and transformers reads no scaling from GGUF, so its "
            "scores would be others; name the folder of the same model in safetensors"
        )


@cache
def _architectures() -> frozenset[str]:
    """Names in GGUF of what transformers reads."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    names = set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}
    spelled = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2"}
    try:
        from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
    except ImportError:  # versions before it had a second reader
        GGUF_ARCHS = {}  # noqa: N806 - the library's name
    return frozenset({spelled.get(name, name) for name in names} | set(GGUF_ARCHS))


def _check_weights(header: GgufHeader, where: str) -> None:
    """Every tensor lies within the file, and its type can be turned into numbers."""
    try:
        import gguf
        import numpy
    except ImportError:
        raise UserError(f"{where}: reading {header.path} takes the package gguf: {INSTALL_GGUF}") from None
    size = header.path.stat().st_size
    for name, tensor in header.tensors.items():
        try:
            kind = gguf.GGMLQuantizationType(tensor.kind)
            elements, width = gguf.GGML_QUANT_SIZES[kind]
            gguf.dequantize(numpy.zeros((1, width), numpy.uint8), kind)
        except (ValueError, KeyError, NotImplementedError):
            shown = kind.name if tensor.kind in list(gguf.GGMLQuantizationType) else f"number {tensor.kind}"
            raise UserError(
                f"{where}: {header.path} keeps {name[:80]!r} in the type {shown}, which cannot be turned into weights; "
                "take another quantisation of the same model, such as Q4_K_M, Q8_0 or F16"
            ) from None
        if tensor.shape[-1] % elements:
            raise UserError(f"{where}: {header.path}: {name[:80]!r} has rows that are not whole blocks of {kind.name}")
        end = header.weights_start + tensor.offset + tensor.elements // elements * width
        if end > size:
            raise UserError(
                f"{where}: {header.path} is cut off: {name[:80]!r} would end at byte {end:,}, and the file has "
                f"{size:,}; fetch it again"
            )


def _check_room(header: GgufHeader, store: ArtifactStore, where: str) -> None:
    """Memory and disk that the conversion takes."""
    weights = header.parameters * _WIDTH
    needed, free = int(weights * _PEAK), available_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{where}: turning {header.path} into a folder takes {gigabytes(needed)} of memory for "
            f"{_millions(header)}, and {gigabytes(free)} are available; take a smaller model, or "
            "name the folder of the same model in safetensors"
        )
    home = next(folder for folder in (store.root, *store.root.parents) if folder.is_dir())
    space = shutil.disk_usage(home).free
    if weights > space:
        raise UserError(
            f"{where}: the weights of {header.path} take {gigabytes(weights)} under {home}, and {gigabytes(space)} are "
            "free there; free some, or set DIG_HOME to another disk"
        )


def _millions(header: GgufHeader) -> str:
    return f"{header.parameters / 1e6:,.1f} M weights"


def _convert(header: GgufHeader, folder: Path, where: str) -> None:
    """Writes the folder."""
    from transformers import AutoTokenizer, GenerationConfig

    alone = folder / SCRATCH / "gguf"  # nothing else beside the file, which transformers would read, too
    shutil.rmtree(alone, ignore_errors=True)
    alone.mkdir(parents=True)
    (alone / "model.gguf").symlink_to(header.path.absolute())
    try:
        with without_bars(), redirect_stderr(StringIO()):  # a bar that transformers shows in any case
            model, tokenizer = _load(alone, where)
    except UserError:
        raise
    except Exception as error:  # whatever the library says to a file that it does not expect
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:_REASON]
        raise UserError(f"{where}: {header.path} cannot be loaded as a causal language model: {reason}") from None
    unknown = mend_splitting(tokenizer, header)
    if unknown and global_rank() == 0:
        warn(f"{where}: {header.path}: {unknown}; its words may be read as other tokens than in its training")
    if header.context_length is not None:
        tokenizer.model_max_length = header.context_length
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    settings = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=settings.bos_token_id, eos_token_id=settings.eos_token_id, pad_token_id=settings.pad_token_id
    )
    with without_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    auto = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if any(auto.encode(text) != tokenizer.encode(text) for text in _TEXTS):
        read_as_written(folder)


def _load(folder: Path, where: str) -> tuple[Any, Any]:
    import torch
    import transformers

    source: dict[str, Any] = {"gguf_file": "model.gguf"}
    settings: dict[str, Any] = {"dtype": torch.float32}
    if dequantized := getattr(transformers, "GgufConfig", None):  # else the model counts as quantized for good
        settings["quantization_config"] = dequantized(dequantize=True)
    model = load_complete(transformers.AutoModelForCausalLM.from_pretrained, folder, where, **source, **settings)
    return model, transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **source)
