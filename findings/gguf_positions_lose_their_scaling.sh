#!/usr/bin/env bash
# A GGUF file of a Llama whose positions are scaled (rope), loaded by transformers.
# Guess:    the scaling is read, as the base frequency beside it is, or the file is refused: the keys are in the GGUF
#           specification, and every file of Llama 3.1 or later holds the tensor `rope_freqs.weight`.
# Happens:  neither is read. The configuration says rope_type=default, the loading report lists no unexpected key, the
#           tensor is left out, and logits are, to the bit, those of a file without scaling. Scores are wrong in silence.
# Follows:  look into the file's header for the scaling before the weights are trusted; dig refuses such a file by name.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  "transformers==5.23.0" "torch==2.15.0" "gguf==0.19.0" "accelerate==1.15.0"
cd "$work"
"$work/venv/bin/python" - <<'PYTHON_CODE'
import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
WIDTH, INNER, HEADS, WORDS = 32, 64, 4, 64


def write(name, kind=None, factors=None):
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(name, "llama")
    writer.add_name("Tiny")
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(WORDS)
    if kind:
        writer.add_rope_scaling_type(kind)
        writer.add_rope_scaling_factor(4.0)
    shapes = {"token_embd": (WORDS, WIDTH), "output_norm": (WIDTH,), "blk.0.attn_norm": (WIDTH,)}
    shapes |= {"blk.0.ffn_norm": (WIDTH,), "blk.0.ffn_gate": (INNER, WIDTH), "blk.0.ffn_up": (INNER, WIDTH)}
    shapes |= {"blk.0.ffn_down": (WIDTH, INNER)} | {f"blk.0.attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v")}
    shapes |= {"blk.0.attn_output": (WIDTH, WIDTH)}
    for tensor, shape in shapes.items():
        writer.add_tensor(f"{tensor}.weight", random.normal(size=shape).astype(np.float32))
    if factors:
        writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model, report = AutoModelForCausalLM.from_pretrained(
        ".", gguf_file=name, output_loading_info=True, dtype=torch.float32
    )
    with torch.no_grad():
        return model.config.rope_parameters, report, model.eval()(torch.arange(40).unsqueeze(0)).logits


plain = write("plain.gguf")
linear = write("linear.gguf", kind=gguf.RopeScalingType.LINEAR)
llama3 = write("llama3.gguf", factors=[1.0, 1.0, 4.0, 8.0])
for name, (settings, report, logits) in {"linear": linear, "rope_freqs": llama3}.items():
    moved = (logits - plain[2]).abs().max().item()
    unexpected = sorted(report["unexpected_keys"])
    print(f"{name}: rope_type={settings['rope_type']}, unexpected keys {unexpected}, logits moved by {moved}")
    assert settings["rope_type"] == "default", "changed: the scaling is read"
    assert not unexpected, "changed: the tensor is reported"
    assert moved == 0, "changed: logits follow the scaling"
PYTHON_CODE
