#!/usr/bin/env bash
# transformers: a GGUF file whose positions are scaled (rope), as those of Llama 3.1 and of long-context models are.
# Guess:    from_pretrained(gguf_file=...) reads the scaling as it reads the base frequency, or refuses the file.
# Happens:  neither. `rope.scaling.*` in the metadata and the tensor `rope_freqs.weight` (where llama.cpp's converter
#           puts Llama 3's scaling) are passed over without a word; the model is built with plain positions, and its
#           log-probabilities are off by whole numbers within a prompt of 300 tokens. gpt-oss alone is read right.
# Follows:  compare the logits with those of the model's safetensors, or set config.rope_parameters by hand. dig refuses
#           such a file by name before it loads a weight.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "transformers==5.23.0" "gguf==0.19.0" "accelerate==1.15.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import tempfile
import warnings
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM, GgufConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

warnings.simplefilter("ignore")
logging.set_verbosity_warning()
logging.disable_progress_bar()
SHAPE = dict(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=False)
ROPE = {
    "no scaling": {"rope_type": "default", "rope_theta": 10_000.0},
    "linear, by 4": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    "Llama 3's": {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 512},
}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm", "model.layers.": "blk."}


def write(model, rope, path):
    """As llama.cpp's converter does: the scaling in the metadata, Llama 3's as a tensor of factors."""
    writer, config = gguf.GGUFWriter(path, "llama"), model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{number}" for number in range(config.vocab_size)])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "llama3":
        half = torch.arange(0, config.head_dim, 2) / config.head_dim
        writer.add_tensor("rope_freqs.weight", (rope["rope_theta"] ** -half / model.model.rotary_emb.inv_freq).numpy())
    for name, value in model.state_dict().items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        if "attn_q" in name or "attn_k" in name:
            heads = config.num_attention_heads
            value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(name, value.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


moved = {}
for name, rope in ROPE.items():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=rope)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    folder = Path(tempfile.mkdtemp())
    write(model, rope, folder / "model.gguf")
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32,
                                                quantization_config=GgufConfig(dequantize=True)).eval()
    prompt = torch.randint(0, 64, (1, 300))
    with torch.no_grad():
        theirs, ours = read(prompt).logits.log_softmax(-1), model(prompt).logits.log_softmax(-1)
    moved[name] = (theirs - ours).abs().max().item()
    print(f"{name:13} rope after loading {read.config.rope_parameters['rope_type']!r}, "
          f"log-probabilities off by up to {moved[name]:.1e}")
assert moved["no scaling"] < 1e-3, "changed: a GGUF file without scaling is read otherwise"
assert min(moved["linear, by 4"], moved["Llama 3's"]) > 0.1, "changed: the scaling of positions is read from GGUF"
PYTHON_CODE
