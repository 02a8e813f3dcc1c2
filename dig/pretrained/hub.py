"""Models of the Hugging Face Hub: in the local cache, or asked for by one short question.

transformers tries again for most of a minute, for each file of each model, before it says that there is no network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

__all__ = ["HubError", "ask_hub", "cached_snapshot"]

_TIMEOUT = 5.0
"""Seconds."""


class HubError(Exception):
    """A model cannot be had from the hub; the message says why.

    Attributes:
        unknown: whether the hub has answered that it has no such model.
    """

    def __init__(self, reason: str, unknown: bool = False) -> None:
        super().__init__(reason)
        self.unknown = unknown


def cached_snapshot(hub_id: str) -> Path | None:
    """The snapshot of the main branch in the Hugging Face cache, when its weights are complete."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    index = folder / "model.safetensors.index.json"
    shards = {"model.safetensors"}
    if index.is_file():
        try:
            shards = {str(name) for name in json.loads(index.read_text())["weight_map"].values()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
    return folder if all((folder / shard).is_file() for shard in shards) else None


def ask_hub(hub_id: str, timeout: float = _TIMEOUT) -> ModelInfo:
    """What the hub says of a model, asked once.

    Args:
        hub_id: its name there.
        timeout: seconds to wait.

    Raises:
        HubError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return HfApi().model_info(hub_id, timeout=timeout)
    except RepositoryNotFoundError:
        reason = "the Hub has no such model, or it is private and HF_TOKEN is not set"
        raise HubError(reason, unknown=True) from None
    except HFValidationError:
        raise HubError("the Hub allows no such name", unknown=True) from None
    except OfflineModeIsEnabled:
        raise HubError("HF_HUB_OFFLINE is set") from None
    except HfHubHTTPError as error:
        raise HubError(f"the Hub answers {error.response.status_code}") from None
    except Exception as error:  # the HTTP library's own errors differ between versions of huggingface_hub
        lines = str(error).strip().splitlines()
        raise HubError(f"the Hub cannot be reached: {lines[0] if lines else type(error).__name__}") from error
