"""Text encoders: any sentence-transformers or transformers model, by name or folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dig.config.errors import UserError
from dig.console import track
from dig.embeddings.locate import EncoderSource, locate_encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["TextEncoder", "load_text_encoder"]


class TextEncoder:
    """Turns texts into vectors by the model's own recipe of pooling and normalisation.

    Args:
        model: the loaded model.
        source: where it came from.
    """

    def __init__(self, model: SentenceTransformer, source: EncoderSource) -> None:
        self.model = model
        self.source = source

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
        return int(self.model.get_embedding_dimension() or self.encode([""], 1).shape[1])

    @property
    def max_tokens(self) -> int | None:
        """Number of tokens at which a text is cut; None where the model knows no limit."""
        return self.model.max_seq_length

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Embeds texts, longest first so that a batch holds little padding and a lack of memory shows at once.

        Args:
            texts: documents; an empty one is embedded as it is.
            batch_size: texts a batch.

        Returns:
            Vectors in the order of ``texts``  # (texts, dim) float32, on the CPU

        Raises:
            UserError: when a vector is not finite; names the rows.
        """
        if not texts:
            return torch.empty(0, self.dim)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        vectors: Tensor | None = None  # (texts, dim)
        for rows in track(batches, "embedding texts"):
            batch = self.model.encode(
                [texts[row] for row in rows],
                batch_size=batch_size,
                convert_to_tensor=True,
                show_progress_bar=False,
                normalize_embeddings=False,
            )
            if vectors is None:
                vectors = torch.empty(len(texts), batch.shape[1])
            vectors[rows] = batch.float().cpu()
        if vectors is None:
            raise AssertionError("no batch was encoded")
        self._check_finite(vectors)
        return vectors

    def _check_finite(self, vectors: Tensor) -> None:
        bad = (~vectors.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if bad:
            shown = ", ".join(map(str, bad[:10])) + (", …" if len(bad) > 10 else "")
            raise UserError(
                f"embedding.text_encoder={self.name} gives NaN or infinite values for {len(bad)} of {len(vectors)} "
                f"items (rows {shown})"
            )


def load_text_encoder(
    name: str, device: str | torch.device | None = None, max_tokens: int | None = None
) -> TextEncoder:
    """Loads an encoder from a Hub id or a folder, on the best device unless one is named.

    A plain transformers model gets mean pooling. Weights are read from safetensors only and code of the model's
    repository is never run.

    Args:
        name: see :func:`dig.embeddings.locate.locate_encoder`.
        device: where it runs.
        max_tokens: cut texts here; the model's own limit stays where it is lower.

    Raises:
        UserError: when the model cannot be had or cannot be loaded.
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

    try:
        with _quiet_loading():
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
    if max_tokens is not None:
        limit = model.max_seq_length
        model.max_seq_length = max_tokens if limit is None else min(max_tokens, limit)
    return TextEncoder(model, source)


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
