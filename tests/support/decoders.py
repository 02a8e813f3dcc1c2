"""Every causal language model of transformers, small: two layers, 32 wide."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

__all__ = ["NOT_SMALL", "small_config", "small_types"]

NOT_SMALL = {
    "blt",
    "cohere_compass_text",
    "dbrx",
    "dots3_note_text",
    "gemma3n_text",
    "gemma4_assistant",
    "gemma4_unified_assistant",
    "git",
    "mimo_v2_flash",
    "musicgen",
    "musicgen_melody",
    "phi4_multimodal",
    "qwen4_exp_text",
    "xlnet",
    "zamba",
}
"""Types whose parts have sizes of their own that few keys do not make small, or that transformers builds only with
parts beside them."""
_SIZES = {
    32: ("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "dim", "embed_dim", "emb_dim"),
    64: (
        "intermediate_size",
        "ffn_dim",
        "d_ff",
        "n_inner",
        "decoder_ffn_dim",
        "encoder_ffn_dim",
        "inner_dim",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
    ),
    2: (
        "num_hidden_layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "decoder_layers",
        "encoder_layers",
        "num_decoder_layers",
        "num_experts_per_tok",
        "num_experts_per_token",
        "top_k_experts",
        "moe_k",
    ),
    4: (
        "num_attention_heads",
        "n_head",
        "n_heads",
        "num_heads",
        "decoder_attention_heads",
        "encoder_attention_heads",
        "num_key_value_heads",
        "num_experts",
        "num_local_experts",
        "n_routed_experts",
        "moe_num_experts",
    ),
    8: ("head_dim",),
}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "head_dim": None,
}
_INDEXED = {**_LATENT, "index_n_heads": 2, "index_head_dim": 16}
_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
_MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "mamba_expand": 2,
}
_DECODER = {"is_decoder": True}
_CONVOLUTION = {"layer_types": ["conv", "full_attention"]}
_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu"), _LATENT),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa", "hy_v4"), _INDEXED),
    **dict.fromkeys(("olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), _DELTA),
    **dict.fromkeys(
        (
            "bert",
            "bert-generation",
            "big_bird",
            "camembert",
            "data2vec-text",
            "electra",
            "ernie",
            "megatron-bert",
            "rembert",
            "roberta",
            "roberta-prelayernorm",
            "roformer",
            "xlm-roberta",
            "xlm-roberta-xl",
        ),
        _DECODER,
    ),
    **{name: {"rotary_dim": 4} for name in ("codegen", "gptj")},
    **{name: {"head_dim": 8} for name in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    "bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "bailing_hybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
    "falcon": {"head_dim": None},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64},
    "gemma4_text": {
        "head_dim": None,
        "num_key_value_heads": None,
        "vocab_size_per_layer_input": 60,
        "hidden_size_per_layer_input": 8,
    },
    "gemma4_unified_text": {"head_dim": None, "num_key_value_heads": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention"]},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "kimi_linear": {**_LATENT, "linear_num_heads": 2, "linear_head_dim": 8},
    "lfm2": _CONVOLUTION,
    "lfm2_moe": {**_CONVOLUTION, "num_dense_layers": 1},
    "lfm3": _CONVOLUTION,
    "longcat_flash": {**_LATENT, "head_dim": 8, "moe_topk": 2, "zero_expert_num": 2, "expert_ffn_hidden_size": 16},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "modernbert-decoder": {"layer_types": ["full_attention", "sliding_attention"]},
    "nemotron_h": {
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
        "layers_block_type": ["mamba", "attention"],
    },
    "prophetnet": {"num_hidden_layers": None, "num_encoder_layers": 2, "num_decoder_layers": 2},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "attention_window_size": 16, "lru_width": 32},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [16, 16]},
    "roc_bert": {
        "is_decoder": True,
        "pronunciation_vocab_size": 10,
        "shape_vocab_size": 10,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "xlm": {"causal": True},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"],
        "n_mamba_heads": 8,
        "mamba_d_state": 8,
        "chunk_size": 8,
        "mamba_headdim": 8,
        "hybrid_layer_ids": [1],
    },
    "zaya": {"num_experts_per_tok": 1},
}


def small_types() -> list[str]:
    """The types that are built small here."""
    return sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - NOT_SMALL)


def small_config(model_type: str) -> dict[str, Any]:
    """Keys of ``backbone.config`` that make a type small: sizes under its names, and what goes with them."""
    settings = AutoConfig.for_model(model_type)
    defaults, own = settings.to_dict(), _OWN.get(model_type, {})
    own = {name: value for name, value in own.items() if name in defaults or hasattr(settings, name)}
    sizes = {
        name: size
        for size, names in _SIZES.items()
        for name in names
        if isinstance(defaults.get(name), int) and not isinstance(defaults[name], bool)
    }
    keys = {"model_type": model_type, **sizes, **own}
    return {name: value for name, value in keys.items() if value is not None}
