#!/usr/bin/env bash
# Two decoders without a modules.json, opened as text encoders by sentence-transformers.
# Guess:    both are pooled in the same way, by the mean as the documentation of plain folders says.
# Happens:  the *name of the class* in config.json decides: LlamaForCausalLM is pooled by its last token, GPT2LMHeadModel
#           by the mean, and the same Llama saved without its head (LlamaModel) by the mean again. A log line is all.
# Follows:  say the pooling (modules.json, or models.Pooling). dig takes the mean of every plain folder and the file's
#           word where there is one (dig/embeddings/text.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "sentence-transformers==6.2.0" "transformers==5.23.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import logging
import tempfile
from pathlib import Path

from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast

logging.disable(logging.WARNING)
words = {word: number for number, word in enumerate(["<pad>", "<unk>", "red", "lip", "balm"])}
llama = LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
gpt2 = GPT2Config(vocab_size=8, n_embd=16, n_layer=1, n_head=2, n_positions=32)
pooled = {}
for name, model in {"LlamaForCausalLM": LlamaForCausalLM(llama), "LlamaModel": LlamaModel(llama),
                    "GPT2LMHeadModel": GPT2LMHeadModel(gpt2)}.items():
    folder = Path(tempfile.mkdtemp())
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    model.save_pretrained(folder)
    pooled[name] = SentenceTransformer(str(folder), device="cpu")[1].pooling_mode
    print(f"{name:18} {pooled[name]}")
shown = {name: str(mode) for name, mode in pooled.items()}
assert "last" in shown["LlamaForCausalLM"], "changed: LlamaForCausalLM"
assert "mean" in shown["LlamaModel"] and "mean" in shown["GPT2LMHeadModel"], "changed: the others"
PYTHON_CODE
