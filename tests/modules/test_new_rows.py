"""The first steps move the rows of new tokens and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import tiny

from datamodules.prompts import SidPrompts
from dig.config.schema import BackboneConfig, EvaluationConfig, LoraConfig, PromptConfig, SFTConfig
from dig.generation.backbone import Backbone, build_backbone
from dig.modules.sft import SFTModule

IDS = tiny.ragged_catalogue()


def trained(folder: Path, lora: bool, tied: bool, steps: int) -> tuple[Backbone, dict[str, torch.Tensor]]:
    tiny.pretrained_folder(folder, "qwen2", tied)
    config = BackboneConfig(pretrained=str(folder), lora=LoraConfig(enabled=lora, dropout=0.0))
    backbone = build_backbone(config, IDS.sizes, max_tokens=64)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    tokens = backbone.vocabulary.encode(IDS.codes)
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(), from_scratch=False)
    data = tiny.sequence_data(tiny.cyclic_sequences(40, 24), builder, 16, None, 40, seed=0)
    settings = SFTConfig(learning_rate=1e-2, new_rows_steps=3, weight_decay=0.5, warmup_ratio=0.0, pack=False)
    module = SFTModule(backbone, tokens, settings, EvaluationConfig(ks=[1], valid_beams=2))
    tiny.quiet_trainer(max_steps=steps, max_epochs=9, limit_val_batches=0, gradient_clip_val=1.0).fit(
        module, datamodule=data
    )
    return backbone, before


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_three_steps_train_the_new_rows_alone_and_the_fourth_trains_all(tmp_path: Path, lora: bool, tied: bool):
    for steps in (3, 4):
        backbone, before = trained(tmp_path, lora, tied, steps)
        new = torch.zeros(48, dtype=torch.bool)
        new[backbone.vocabulary.ids] = True
        moved = set()
        for name, value in backbone.model.state_dict().items():
            if torch.equal(value, before[name]):
                continue
            table = value.shape[0] == 48
            moved.add("row table" if table or "trainable_tokens" in name else "other")
            if table and steps == 3 and not lora:
                assert torch.equal(value[~new], before[name][~new]) and not torch.equal(value[new], before[name][new])
        assert moved == ({"row table"} if steps == 3 else {"row table", "other"})
