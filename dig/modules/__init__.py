"""The three LightningModules, thin: wiring, losses, logging.

The names here are loaded when they are first used (``dig.engine.lazy``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.modules.clip import CLIPModule, PictureEncoding, TextEncoding
    from dig.modules.evaluation import EvaluationModule
    from dig.modules.grpo import GRPOModule
    from dig.modules.policy import PolicyModule
    from dig.modules.rqvae import RQVAEModule
    from dig.modules.sft import SFTModule

__all__ = [
    "CLIPModule",
    "EvaluationModule",
    "GRPOModule",
    "PictureEncoding",
    "PolicyModule",
    "RQVAEModule",
    "SFTModule",
    "TextEncoding",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CLIPModule": "clip",
        "PictureEncoding": "clip",
        "TextEncoding": "clip",
        "EvaluationModule": "evaluation",
        "GRPOModule": "grpo",
        "PolicyModule": "policy",
        "RQVAEModule": "rqvae",
        "SFTModule": "sft",
    },
)
