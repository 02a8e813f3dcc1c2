"""The causal language model and its tokenizer: loaded with LoRA, or built small from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from dig.config import UserError, nearest
from dig.config.schema import BackboneConfig
from dig.generation.composed_rows import fold_rows
from dig.generation.intrr import IntRR, intrr_vocabulary, is_intrr
from dig.generation.lora import add_lora, merge_lora
from dig.generation.sid_rows import start_among_words, start_from_scratch
from dig.generation.vocabulary import TASK_TOKENS, SidVocabulary
from dig.weights import load_complete

__all__ = ["Backbone", "build_backbone", "load_backbone", "one_token_backbone", "save_backbone"]

_SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
_WORDS = (*_SPECIALS, *TASK_TOKENS.values())
# Width and depth at which a catalogue of ten thousand items trains in minutes on a CPU (our default, to be swept).
_SMALL = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
}


@dataclass
class Backbone:
    """A model with its tokenizer and the place of the SID tokens in it.

    Attributes:
        model: a causal language model, possibly with adapters.
        tokenizer: its tokenizer, SID tokens included; None where items are one vector each.
        vocabulary: where the SID tokens are.
        from_scratch: whether the tokenizer knows SID tokens only.
    """

    model: nn.Module
    tokenizer: Any
    vocabulary: SidVocabulary
    from_scratch: bool

    @property
    def one_token(self) -> bool:
        """Whether an item is one vector and its codes are chosen behind the model (``sft.item_tokens=one``)."""
        return isinstance(self.model, IntRR)


def one_token_backbone(model: IntRR) -> Backbone:
    """An IntRR as a policy: it has no tokenizer, and its vocabulary is that of the codes alone."""
    return Backbone(model, None, intrr_vocabulary(model.sizes.codes), from_scratch=True)


def build_backbone(
    config: BackboneConfig,
    sizes: list[int],
    max_tokens: int,
    vectors: Sequence[Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Backbone:
    """A fresh policy for Semantic IDs with ``sizes`` codes a level.

    Args:
        config: a pretrained model's name or folder, or the configuration of one from scratch.
        sizes: codes a level, the suffix level included.
        max_tokens: longest prompt and answer; a model from scratch gets that many positions.
        vectors: (tokens, dim) vectors of the tokens of each level, where SID rows start; None starts them at random.
        dtype: of a pretrained model's weights.

    Raises:
        UserError: if the model cannot be had or is no causal language model.
    """
    if config.pretrained:
        backbone = _pretrained(config, sizes, vectors, dtype)
    else:
        backbone = _from_scratch(config, sizes, max_tokens)
        if vectors:
            start_from_scratch(backbone.model, backbone.vocabulary, vectors)
    if config.gradient_checkpointing:
        _checkpoint_gradients(backbone.model, config)
    return backbone


def load_backbone(folder: Path, sizes: list[int]) -> Backbone:
    """Loads what :func:`save_backbone` wrote.

    Raises:
        UserError: the model belongs to other Semantic IDs.
    """
    if is_intrr(folder):
        model = IntRR.load(folder)
        if model.sizes.codes != list(sizes):
            raise UserError(f"{folder} holds an IntRR for {model.sizes.codes} codes a level; it belongs to other "
                            "Semantic IDs")  # fmt: skip
        return one_token_backbone(model)
    model = load_complete(AutoModelForCausalLM.from_pretrained, folder, str(folder), dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = SidVocabulary.of(tokenizer, sizes)
    from_scratch = len(tokenizer) == len(_WORDS) + sum(sizes)
    return Backbone(model, tokenizer, vocabulary, from_scratch)


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Writes model (safetensors) and tokenizer, which plain transformers loads; adapters and composed rows are folded
    into the weights first. An IntRR is written in a format of its own."""
    if isinstance(backbone.model, IntRR):
        backbone.model.save(folder)
        return
    model = merge_lora(backbone.model)
    fold_rows(model)
    model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


def _pretrained(
    config: BackboneConfig, sizes: list[int], vectors: Sequence[Tensor] | None, dtype: torch.dtype
) -> Backbone:
    name = str(config.pretrained)
    try:
        model = load_complete(AutoModelForCausalLM.from_pretrained, name, f"backbone.pretrained={name}", dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(name)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # what some give where no file is
            raise ValueError("there is no tokenizer")
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"backbone.pretrained={name} cannot be loaded: {reason}; without a network, name the folder of "
                        "a causal language model in safetensors with its tokenizer") from None  # fmt: skip
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"backbone.pretrained={name}: its tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    # The width of the embedding may exceed the tokenizer's length (Qwen pads it): rows are resized to the larger one,
    # and the new rows are those of the SID tokens wherever they lie.
    vocabulary = SidVocabulary.add_to(tokenizer, sizes)
    rows = max(len(tokenizer), model.get_input_embeddings().weight.shape[0])
    model.resize_token_embeddings(rows, mean_resizing=False)
    _check_causal(model, name)
    start_among_words(model, vocabulary, len(tokenizer), vectors)
    if config.lora.enabled:
        model = add_lora(model, config.lora, vocabulary.ids.tolist())
    return Backbone(model, tokenizer, vocabulary, from_scratch=False)


@torch.no_grad()
def _check_causal(model: Any, name: str) -> None:
    """Asks the model itself: transformers also loads encoders as causal language models, with a warning."""
    first = torch.tensor([[1, 2, 3, 4]])
    other = torch.tensor([[1, 2, 3, 5]])
    body = model.eval().base_model
    states = [body(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[:, :3].float()
              for tokens in (first, other)]  # fmt: skip
    if not torch.allclose(states[0], states[1], atol=1e-3, rtol=1e-3, equal_nan=True):
        raise UserError(f"backbone.pretrained={name}: a {model.config.model_type} looks at later tokens, so it is no "
                        "causal language model; name a decoder, such as a Qwen2 or a Llama")  # fmt: skip


def _checkpoint_gradients(model: Any, config: BackboneConfig) -> None:
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    if not getattr(causal, "supports_gradient_checkpointing", False):
        raise UserError(f"backbone.gradient_checkpointing: {causal.config.model_type} cannot do it", exit_code=2)
    causal.gradient_checkpointing_enable({"use_reentrant": False})
    if isinstance(model, PeftModel):
        causal.enable_input_require_grads()


def _from_scratch(config: BackboneConfig, sizes: list[int], max_tokens: int) -> Backbone:
    names = [*_WORDS, *SidVocabulary.tokens(sizes)]
    words = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = WhitespaceSplit()
    special = {f"{name.strip('<>')}_token": name for name in _SPECIALS}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)
    model_type = _known_model_type(config)
    keys = {**_SMALL, **config.config} if model_type == "qwen2" else dict(config.config)
    if "num_attention_heads" in config.config and hasattr(AutoConfig.for_model(model_type), "num_key_value_heads"):
        # transformers' defaults are those of large models; as many as heads always fits
        keys["num_key_value_heads"] = config.config.get("num_key_value_heads", config.config["num_attention_heads"])
    keys = {"max_position_embeddings": max_tokens, **keys}
    keys |= {"vocab_size": len(names), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    del keys["model_type"]
    try:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **keys))
    except (ValueError, KeyError) as error:
        raise UserError(f"backbone.config makes no {model_type}: {str(error).strip().splitlines()[0]}",
                        exit_code=2) from None  # fmt: skip
    return Backbone(model, tokenizer, SidVocabulary.of(tokenizer, sizes), from_scratch=True)


def _known_model_type(config: BackboneConfig) -> str:
    """The architecture, after a look at whether it is one and has the keys that are set."""
    model_type = str(config.config.get("model_type", _SMALL["model_type"]))
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        hint = nearest(model_type, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        raise UserError(f"backbone.config.model_type={model_type} is no causal language model of transformers"
                        f"{f'; did you mean {hint}?' if hint else ''}", exit_code=2)  # fmt: skip
    settings = AutoConfig.for_model(model_type)
    unknown = [key for key in config.config if not hasattr(settings, key)]
    if unknown:
        hint = nearest(unknown[0], [*vars(settings), *settings.attribute_map])
        raise UserError(f"backbone.config.{unknown[0]}: {model_type} has no such key"
                        f"{f'; did you mean {hint}?' if hint else ''}", exit_code=2)  # fmt: skip
    return model_type
