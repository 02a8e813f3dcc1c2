"""Pictures as models are shown them: RGB, at most 768 pixels a side, whatever they were."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from dig.config.errors import UserError
from dig.config.schema import ModelConfig
from dig.interests.models.response import LocalModel, Message
from dig.pictures import read_picture

__all__ = ["MAX_SIDE", "chat_turn", "open_picture", "local_model"]


MAX_SIDE = 768
"""Pixels; larger pictures cost tokens and tell no more of a product."""


def open_picture(path: Path) -> Image.Image | None:
    """The picture as :func:`dig.pictures.read_picture` reads it, made small; None where there is none."""
    picture = read_picture(path)
    if picture is not None:
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return picture


def chat_turn(message: Message) -> dict[str, Any]:
    """A turn as the chat completions protocol has it, a picture as a JPEG within; one that is damaged is left out."""
    picture = open_picture(message.picture) if message.picture else None
    if picture is None:
        return {"role": message.role, "content": message.text}
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    url = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": message.text}]
    return {"role": message.role, "content": parts}


# The models that can be asked: endpoints that speak chat completions, and local ones.


def local_model(name: str, config: ModelConfig) -> LocalModel:
    """A model of this process.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        if config.kind == "vllm":
            from dig.interests.models.vllm_offline import VllmModel

            return VllmModel(config)
        from dig.interests.models.local import TransformersModel

        return TransformersModel(config)
    except UserError as error:
        raise UserError(f"mining.models.{name}: {error}", error.exit_code) from error
