"""Small language models as GGUF files, written by the gguf package, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from tokenizers.trainers import BpeTrainer

from support.tiny import tiny_model

__all__ = ["CHAT", "CONTROL", "TinyGguf", "splitting_words", "write_gguf"]

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<file_sep>"]
CONTEXT = 512
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class TinyGguf(NamedTuple):
    """A file, and the model and tokenizer that it holds."""

    path: Path
    model: Any
    words: Tokenizer


def splitting_words(pre: str = "smollm") -> Tokenizer:
    """A byte-level BPE in which digits stand alone, as llama.cpp's ``smollm`` splits them."""
    words = Tokenizer(BPE())
    level = ByteLevel(add_prefix_space=False)
    words.pre_tokenizer = Sequence([Digits(individual_digits=True), level]) if pre == "smollm" else level
    words.decoder = ByteLevelDecoder()
    corpus = ["A customer bought these items, oldest first", "Title of the 12 items  that customers like most"] * 9
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=360, special_tokens=CONTROL, show_progress=False, initial_alphabet=alphabet)
    words.train_from_iterator(corpus, trainer)
    return words


def write_gguf(
    path: Path,
    kind: str = "F32",
    family: str = "llama",
    pre: str | None = "smollm",
    chat: str | None = CHAT,
    change: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    architecture: str | None = None,
    tensors: bool = True,
    raw: gguf.GGMLQuantizationType | None = None,
    seed: int = 0,
) -> TinyGguf:
    """Writes a small decoder.

    Args:
        path: the file.
        kind: ggml's type of its matrices; the model that is given back has the numbers that come out of it.
        family: ``llama`` or ``qwen2``, of transformers.
        pre: name of the splitting; None leaves it out.
        chat: the chat template; None leaves it out.
        change: adds further keys.
        architecture: the name that is written, if it is not the family's.
        tensors: whether there are any.
        raw: the type that the embedding claims to be in, whatever it is in.
        seed: of the weights.
    """
    words = splitting_words()
    keys = {"head_dim": 8} if family == "llama" else {}
    shape = {"max_position_embeddings": CONTEXT, "tie_word_embeddings": True, "num_attention_heads": 4}
    model = tiny_model(family, words.get_vocab_size(), seed, **shape, num_key_value_heads=2, **keys)
    writer = gguf.GGUFWriter(str(path), architecture or family)
    writer.add_name("Tiny")
    _write_settings(writer, model)
    _write_tokenizer(writer, words, pre, chat)
    change(writer)
    for name, value in model.state_dict().items() if tensors else ():
        if name != "lm_head.weight":
            _write_tensor(writer, name, value, kind, family, raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return TinyGguf(path, model, words)


def _write_settings(writer: gguf.GGUFWriter, model: Any) -> None:
    config = model.config
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: gguf.GGUFWriter, words: Tokenizer, pre: str | None, chat: str | None) -> None:
    content = json.loads(words.to_str())["model"]
    tokens = sorted(words.get_vocab(), key=words.token_to_id)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in CONTROL else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in content["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    if chat is not None:
        writer.add_chat_template(chat)


@torch.no_grad()
def _write_tensor(writer: gguf.GGUFWriter, name: str, value: torch.Tensor, kind: str, family: str, raw: Any) -> None:
    """Writes a tensor, and puts into the model what is read from it again."""
    array = value.numpy().astype(np.float32)
    stored = gguf.GGMLQuantizationType[kind] if array.ndim == 2 else gguf.GGMLQuantizationType.F32
    value.copy_(torch.from_numpy(np.array(gguf.dequantize(gguf.quantize(array, stored), stored))))
    if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = 4 if "q_proj" in name else 2
        array = array.reshape(heads, 2, len(array) // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
    data = gguf.quantize(array, stored)
    if raw is not None and name.startswith("model.embed_tokens"):
        stored = raw
        data = np.zeros(
            (array.shape[0], array.shape[1] // gguf.GGML_QUANT_SIZES[raw][0] * gguf.GGML_QUANT_SIZES[raw][1]), np.uint8
        )
    writer.add_tensor(_gguf_name(name), data, raw_dtype=stored)


def _gguf_name(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, inner = stem.split(".", 3)
        return f"blk.{layer}.{_NAMES[inner]}.{ending}"
    return f"{_NAMES[stem]}.{ending}"
