"""DeepInterestGR on PyTorch Lightning: generative recommendation that understands why people buy.

The names here are loaded when they are first used, so that ``import dig`` costs nothing.
"""

from __future__ import annotations

import signal
import sys

if sys.argv[:1] == ["-m"] or "".join(sys.argv[:1]).endswith("/bin/dig"):  # this is imported before the command
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends in silence until there is somebody to say it
    from dig.engine.failures import guard_imports

    guard_imports()

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names
from dig.engine.moved import answer_old_paths

if TYPE_CHECKING:
    from dig.config import Config, UserError, load_config
    from dig.engine.pipeline import Run, run_experiment
    from dig.modules.grpo import GRPOModule
    from dig.modules.rqvae import RQVAEModule
    from dig.modules.sft import SFTModule
    from dig.recommender import Recommender

__version__ = "0.1.0"

__all__ = [
    "Config",
    "GRPOModule",
    "RQVAEModule",
    "Recommender",
    "Run",
    "SFTModule",
    "UserError",
    "load_config",
    "run_experiment",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Config": "dig.config",
        "GRPOModule": "dig.modules.grpo",
        "RQVAEModule": "dig.modules.rqvae",
        "SFTModule": "dig.modules.sft",
        "Recommender": "dig.recommender",
        "Run": "dig.engine.pipeline",
        "UserError": "dig.config",
        "load_config": "dig.config",
        "run_experiment": "dig.engine.pipeline",
    },
)

answer_old_paths()
