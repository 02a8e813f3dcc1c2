"""Text encoders: any sentence-transformers or transformers model, by name or folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dig.config.errors import UserError
from dig.embeddings.locate import EncoderSource, locate_encoder
from dig.engine.weights import recorded_loading, refuse_missing

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["TextEncoder", "load_text_encoder"]

_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Under these names models keep the prompt that goes before what is searched."""


class TextEncoder:
    """Turns texts into vectors by the model's own recipe of pooling and normalisation.

    Args:
        model: the loaded model.
        source: where it came from.
        prompt: words before every text; empty for none.
    """

    def __init__(self, model: SentenceTransformer, source: EncoderSource, prompt: str = "") -> None:
        self.model = model
        self.source = source
        self.prompt = prompt

    @property
    def name(self) -> str:
        """The name that was asked for."""
        return self.source.name

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and the recipe, for cache keys."""
        return self.source.fingerprint

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.model.get_embedding_dimension() or self.encode_batch(["a"]).shape[1])

    @property
    def max_tokens(self) -> int | None:
        """Number of tokens at which a text is cut; None where the model knows no limit."""
        return self.model.max_seq_length

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Embeds texts on one device, longest first, ``(texts, dim)`` float32 in their order, on the CPU.

        Args:
            texts: documents; an empty one is embedded as it is.
            batch_size: texts per batch.
        """
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
        vectors = torch.empty(len(texts), self.dim)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            vectors[rows] = self.encode_batch([texts[row] for row in rows]).float().cpu()
        return vectors

    def encode_batch(self, texts: list[str]) -> Tensor:
        """Vectors ``(texts, dim)`` of one batch, on the model's device, by the model's own recipe for documents.

        Raises:
            UserError: a vector is not finite; names the beginning of its text.
        """
        # A batch without a single token has no shape that a model takes; beside another text an empty one is zero.
        filled = texts if any((self.prompt + text).strip() for text in texts) else [*texts, "a"]
        vectors: Tensor = self.model.encode(
            filled,
            batch_size=len(filled),
            prompt=self.prompt,
            convert_to_tensor=True,
            show_progress_bar=False,
            normalize_embeddings=False,
        )[: len(texts)]
        bad = (~vectors.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
        if bad:
            raise UserError(
                f"embedding.text_encoder={self.name} gives NaN or infinite values for {len(bad)} of {len(texts)} texts "
                f"of a batch; the first begins {texts[bad[0]][:60]!r}"
            )
        return vectors


def load_text_encoder(
    name: str,
    device: str | torch.device | None = None,
    max_tokens: int | None = None,
    instruction: str | None = None,
) -> TextEncoder:
    """Loads an encoder from a Hub id or a folder, on the best device unless one is named.

    How a model of sentence-transformers pools is in its ``modules.json``. A plain transformers folder gets mean pooling
    over the tokens of a text, a causal one, too: the last token of a model that was never trained to be read there says
    what comes next, not what was read. Texts are padded on the right whatever the tokenizer's own side is, so that a
    text's positions, and with them its vector, do not depend on the batch.

    Weights are read from safetensors only, all that vectors depend on must be there, and code of the model's
    repository is never run.

    Args:
        name: see :func:`dig.embeddings.locate.locate_encoder`.
        device: where it runs.
        max_tokens: cut texts here; the model's own limit stays where it is lower.
        instruction: words before every text, or the name of one of the model's own prompts; None takes the model's
            prompt for documents, where it has one (Qwen3-Embedding has none for documents, E5 has ``passage: ``).

    Raises:
        UserError: when the model cannot be had or cannot be loaded, or lacks weights that vectors depend on.
    """
    source = locate_encoder(name)
    if source.folder is None:
        raise AssertionError("a located encoder that was downloaded has a folder")
    for pickled in source.folder.rglob("pytorch_model*.bin"):
        if not any(pickled.parent.glob("*.safetensors")):
            raise UserError(
                f"embedding.text_encoder={name} has pickled weights ({pickled.relative_to(source.folder)}), which are "
                "not loaded; save the model again with save_pretrained, which writes safetensors"
            )
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

    try:
        with _quiet_loading(), recorded_loading() as loaded:
            model = SentenceTransformer(
                str(source.folder),
                device=None if device is None else str(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except Exception as error:  # whatever a library says about a folder that holds no usable model
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"embedding.text_encoder={name} cannot be loaded from {source.folder}: {reason}") from error
    model.eval()
    if not (source.folder / "modules.json").is_file():
        _pool_mean(model)
    for module in model.modules():
        if isinstance(getattr(module, "tokenizer", None), PreTrainedTokenizerBase):
            module.tokenizer.padding_side = "right"
    refuse_missing(f"embedding.text_encoder={name}", _random_weights(model, loaded))
    if max_tokens is not None:
        limit = model.max_seq_length
        model.max_seq_length = max_tokens if limit is None else min(max_tokens, limit)
    return TextEncoder(model, source, _prompt(model, instruction))


def _pool_mean(model: SentenceTransformer) -> None:
    """sentence-transformers takes the last token of what was made to write text, and the mean of the others."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    for place, module in enumerate(model):
        if isinstance(module, Pooling):
            model[place] = Pooling(module.embedding_dimension, "mean")


@torch.inference_mode()
def _random_weights(model: SentenceTransformer, loaded: list[tuple[nn.Module, list[str]]]) -> list[str]:
    """Names of the missing tensors that vectors depend on: with other values there, a text has another vector.

    Many encoders are published without a part that no pooling reads, such as the pooler of a BERT.
    """
    missing = {
        name: tensor
        for part, names in loaded
        for name, tensor in part.named_parameters()
        if name in names and tensor.is_floating_point()
    }

    if not missing:
        return []
    probe = _probe(model)
    vectors = model.encode(probe, convert_to_tensor=True, show_progress_bar=False)
    generator = torch.Generator().manual_seed(0)

    def matters(tensors: Iterable[Tensor]) -> bool:
        before = [(tensor, tensor.clone()) for tensor in tensors]
        for tensor, _ in before:
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        changed = model.encode(probe, convert_to_tensor=True, show_progress_bar=False)
        for tensor, values in before:
            tensor.copy_(values)
        return not torch.equal(vectors, changed)

    if not matters(missing.values()):
        return []
    return [name for name, tensor in sorted(missing.items()) if matters([tensor])] or sorted(missing)


def _probe(model: SentenceTransformer) -> list[str]:
    """A text of many different tokens: among equal ones attention would have nothing to choose."""
    vocabulary = sorted(getattr(model.tokenizer, "get_vocab", dict)())
    return [" ".join(["a probe of the weights", *vocabulary[:: max(1, len(vocabulary) // 64)]])]


def _prompt(model: SentenceTransformer, instruction: str | None) -> str:
    prompts: dict[str, str] = {name: words or "" for name, words in (model.prompts or {}).items()}
    if instruction is not None:
        return prompts.get(instruction, instruction)
    own = (prompts[name] for name in _DOCUMENT_PROMPTS if prompts.get(name))
    return next(own, prompts.get(model.default_prompt_name or "", ""))


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without the library's own bar over the weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
