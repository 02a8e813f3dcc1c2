"""Three steps of SFT on one process or on two, for tests that compare them: ``python two_ranks.py DEVICES FILE``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from datamodules.prompts import SidPrompts
from dig.config.schema import EvaluationConfig, PromptConfig, SFTConfig
from dig.modules.sft import SFTModule
from support import tiny


class PlainSFT(SFTModule):
    """Plain gradient descent, so that weights tell the size of gradients, which Adam would hide."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def train(devices: int, file: Path) -> None:
    """Saves the weights after three steps of eight users, and the validation of eleven users before them."""
    torch.set_num_threads(1)
    ids = tiny.ragged_catalogue()
    backbone = tiny.scratch_backbone(ids)
    tokens = backbone.vocabulary.encode(ids.codes)
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(), from_scratch=True)
    data = tiny.sequence_data(tiny.cyclic_sequences(30, 24), builder, 8 // devices, 11, 3, seed=0)
    module = PlainSFT(backbone, tokens, SFTConfig(), EvaluationConfig(ks=[1, 10]))
    strategy = "ddp_fork" if devices > 1 else "auto"
    trainer = tiny.quiet_trainer(devices=devices, strategy=strategy, max_steps=3, limit_val_batches=1.0)
    trainer.validate(module, datamodule=data, verbose=False)
    valid = {name: value.item() for name, value in trainer.callback_metrics.items()}
    trainer = tiny.quiet_trainer(devices=devices, strategy=strategy, max_steps=3, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    torch.save({"valid": valid, "weights": module.state_dict()}, file)


if __name__ == "__main__":
    train(int(sys.argv[1]), Path(sys.argv[2]))
