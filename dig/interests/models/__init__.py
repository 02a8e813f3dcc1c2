"""The models that can be asked: endpoints that speak chat completions, and local ones."""

from __future__ import annotations

from dig.config.errors import UserError
from dig.config.schema import ModelConfig
from dig.interests.asking.conversation import LocalModel

__all__ = ["local_model"]


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
