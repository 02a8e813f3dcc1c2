#!/usr/bin/env bash
# peft: LoRA with trainable_token_indices on a model with tied embeddings that was given some new tokens.
# Guess:    the adapter's file holds the rows that were trained, which is what trainable_token_indices are for.
# Happens:  since the vocabulary has another size than the base's, save_pretrained adds the whole embedding, and the
#           whole output layer, which is the same tensor, once more: 227 MB beside 0.3 MB that were trained, for a model
#           of 135 million parameters (of hidden size 576; a checkpoint every hundred steps fills a disk).
# Follows:  save_pretrained(..., save_embedding_layers=False); the base is then resized before the adapter is loaded.
#           dig does so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "peft==0.21.2" "transformers==5.23.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import tempfile
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

warnings.simplefilter("ignore")
logging.disable_progress_bar()
torch.manual_seed(0)
base = tempfile.mkdtemp()
LlamaForCausalLM(LlamaConfig(vocab_size=49_152, hidden_size=576, intermediate_size=64, num_hidden_layers=1,
                             num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True)).save_pretrained(base)
model = LlamaForCausalLM.from_pretrained(base)
model.resize_token_embeddings(49_152 + 96, mean_resizing=False)
new = list(range(49_152, 49_152 + 96))
adapted = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], trainable_token_indices=new))
trained = sum(each.numel() for each in adapted.parameters() if each.requires_grad)
megabytes = {}
for choice in ("auto", False):
    folder = Path(tempfile.mkdtemp())
    adapted.save_pretrained(folder, save_embedding_layers=choice)
    state = load_file(folder / "adapter_model.safetensors")
    megabytes[choice] = (folder / "adapter_model.safetensors").stat().st_size / 1e6
    print(f"save_embedding_layers={choice}: {megabytes[choice]:.1f} MB for {trained:,} trained numbers "
          f"({4 * trained / 1e6:.1f} MB)")
    for name, value in state.items():
        print("   ", tuple(value.shape), name.removeprefix("base_model.model."))
whole = 2 * 4 * (49_152 + 96) * 576 / 1e6
assert abs(megabytes["auto"] - whole) < 0.02 * whole, "changed: what is saved by default"
assert megabytes[False] < 1, "changed: what save_embedding_layers=False leaves out"
PYTHON_CODE
