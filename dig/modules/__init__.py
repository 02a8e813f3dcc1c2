"""The three LightningModules, thin: wiring, losses, logging.

The names here are loaded when they are first used (``dig.engine.lazy``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.modules.clip import CLIPModule
    from dig.modules.eimf import EIMFModule
    from dig.modules.encoders import PictureEncoding, TextEncoding
    from dig.modules.evaluation import EvaluationModule
    from dig.modules.explicit import KnownUsers
    from dig.modules.grpo import GRPOModule
    from dig.modules.intrr import IntRRModule
    from dig.modules.policy import PolicyModule
    from dig.modules.rqvae import RQVAEModule
    from dig.modules.sasrec import SASRecModule
    from dig.modules.sft import SFTModule
    from dig.modules.tiger import TigerModule

__all__ = [
    "CLIPModule",
    "EIMFModule",
    "EvaluationModule",
    "GRPOModule",
    "IntRRModule",
    "KnownUsers",
    "PictureEncoding",
    "PolicyModule",
    "RQVAEModule",
    "SASRecModule",
    "SFTModule",
    "TextEncoding",
    "TigerModule",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CLIPModule": "clip",
        "EIMFModule": "eimf",
        "PictureEncoding": "encoders",
        "TextEncoding": "encoders",
        "EvaluationModule": "evaluation",
        "KnownUsers": "explicit",
        "GRPOModule": "grpo",
        "IntRRModule": "intrr",
        "PolicyModule": "policy",
        "RQVAEModule": "rqvae",
        "SASRecModule": "sasrec",
        "SFTModule": "sft",
        "TigerModule": "tiger",
    },
)
