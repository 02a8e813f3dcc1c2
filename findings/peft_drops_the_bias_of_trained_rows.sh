#!/usr/bin/env bash
# peft: LoRA with trainable_token_indices on a model whose output layer has a bias (Phi, untied).
# Guess:    nothing changes at the start: B is zero, and the trained rows begin as what they were.
# Happens:  the logits move at once. The layer that holds the trained rows of `lm_head` computes x W' and leaves its bias
#           out; after merging, the bias is back and the logits move again. Embeddings have no bias, so tests on them
#           never see it.
# Follows:  compare the logits before and after an adapter is put on. dig adds the bias back (dig/generation/lora.py) and
#           compares a model with itself whenever rows are added.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "peft==0.21.2" "transformers==5.23.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import PhiConfig, PhiForCausalLM

warnings.simplefilter("ignore")
torch.manual_seed(0)
model = PhiForCausalLM(PhiConfig(vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                 num_attention_heads=4, tie_word_embeddings=False)).eval()
torch.nn.init.normal_(model.lm_head.bias, std=0.3)
prompt = torch.arange(3, 12).unsqueeze(0)
with torch.no_grad():
    before = model(prompt).logits
    largest = model.lm_head.bias.abs().max().item()
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=4,
                                               trainable_token_indices={"lm_head": [38, 39]})).eval()
    moved = (adapted(prompt).logits - before).abs().max().item()
    merged = (adapted.merge_and_unload()(prompt).logits - before).abs().max().item()
print(f"logits move by {moved:.2f} with a fresh adapter (largest bias {largest:.2f}), by {merged:.1e} once it is merged")
assert abs(moved - largest) < 1e-4 and merged < 1e-4, "changed: the bias of an output layer with trained rows is kept"
PYTHON_CODE
