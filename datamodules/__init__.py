"""LightningDataModules shared by the experiment's modules, and the sources, splits and prompts behind them.

The names here are loaded when they are first used (``dig.engine.lazy``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from datamodules.examples import ExampleDataModule, Examples
    from datamodules.item_sequences import HistoryTokens, ItemAnswers, ItemSequences
    from datamodules.items import (
        ContentDataModule,
        ItemDataModule,
        PairDataModule,
        Partners,
        PictureFiles,
        PicturePairs,
        TextFiles,
        open_picture,
    )
    from datamodules.mixture import TaskMixture, TaskPart
    from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
    from datamodules.sequences import SequenceDataModule, training_windows

__all__ = [
    "ContentDataModule",
    "ExampleDataModule",
    "Examples",
    "HistoryTokens",
    "ItemAnswers",
    "ItemDataModule",
    "ItemSequences",
    "PairDataModule",
    "Partners",
    "PictureFiles",
    "PicturePairs",
    "PromptDataModule",
    "SequenceDataModule",
    "TaskMixture",
    "TaskPart",
    "TextFiles",
    "TrainingPrompts",
    "open_picture",
    "training_windows",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ContentDataModule": "items",
        "PictureFiles": "items",
        "TextFiles": "items",
        "open_picture": "items",
        "ExampleDataModule": "examples",
        "Examples": "examples",
        "HistoryTokens": "item_sequences",
        "ItemAnswers": "item_sequences",
        "ItemSequences": "item_sequences",
        "ItemDataModule": "items",
        "Partners": "items",
        "TaskMixture": "mixture",
        "TaskPart": "mixture",
        "PairDataModule": "items",
        "PicturePairs": "items",
        "PromptDataModule": "rollout_prompts",
        "TrainingPrompts": "rollout_prompts",
        "SequenceDataModule": "sequences",
        "training_windows": "sequences",
    },
)
