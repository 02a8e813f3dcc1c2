"""Tiny models, tokenizers and catalogues that tests share, and the slow obvious computation to compare with."""

from __future__ import annotations

import weakref
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from datamodules.histories import Histories, Windows
from datamodules.mixture import TaskMixture, TaskPart, TokenArrays, write_token_arrays
from datamodules.packing import TrainingTokens, collate
from datamodules.prompts import PromptBuilder
from datamodules.sequences import SequenceDataModule, training_windows
from datamodules.splits import Sequences
from datamodules.tasks import ItemTexts, TaskSource
from dig.config.schema import BackboneConfig
from dig.generation.backbone import Backbone, build_backbone
from dig.generation.intrr import IntRR, IntRRSizes
from dig.generation.vocabulary import SidVocabulary
from dig.quantization import SemanticIds

FAMILIES = ("qwen2", "qwen3", "llama", "gpt2", "gemma")
VOCABULARY = 60
SIZES = [4, 4, 4]
_SENTENCE = "A customer bought these items, oldest first: The next item is: user assistant"
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", *_SENTENCE.split()]
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}


def tiny_model(family: str, vocabulary: int = VOCABULARY, seed: int = 0, noise: float = 0.15, **keys: Any) -> Any:
    """A random decoder in evaluation mode; noise on its weights keeps scores far apart."""
    shape = _GPT2 if family == "gpt2" else _SHAPE
    specials = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(family, vocab_size=vocabulary, **{**shape, **specials, **keys})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn_like(parameter)
    return model.eval()


def tiny_encoder_decoder(family: str, noise: float = 0.15, **keys: Any) -> Any:
    """A random encoder-decoder in evaluation mode."""
    shape = {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    }
    config = AutoConfig.for_model(family, vocab_size=VOCABULARY, pad_token_id=0, eos_token_id=1, **shape)
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config, **keys)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn_like(parameter)
    return model.eval()


def ragged_catalogue(items: int = 24, seed: int = 0) -> SemanticIds:
    """A random catalogue in which some items share their codes and get a suffix."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 4, (items, 3), generator=generator)
    codes[: items // 3, :2] = codes[0, :2]  # a crowded corner, so that items collide
    ids = SemanticIds.from_codes([f"i{row}" for row in range(items)], codes, SIZES)
    assert ids.codes.shape[1] == 4
    return ids


def token_sequences(ids: SemanticIds, first: int = 4) -> Tensor:
    """(items, levels) vocabulary ids, level after level from ``first`` on."""
    starts = [first]
    for size in ids.sizes[:-1]:
        starts.append(starts[-1] + size)
    return SidVocabulary(tuple(ids.sizes), tuple(starts)).encode(ids.codes)


def random_prompts(lengths: tuple[int, ...] = (9, 4, 6), seed: int = 0, vocabulary: int = VOCABULARY) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, vocabulary, (length,), generator=generator) for length in lengths]


def padded(prompts: list[Tensor], side: str, pad: int = 0) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask (batch, prompt), padded on one side."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(0, len(prompt)) if side == "right" else slice(width - len(prompt), width)
        ids[row, place] = prompt
        mask[row, place] = 1
    return ids, mask


def replicated_log_probs(
    model: Any, prompt: Tensor, tokens: Tensor, normalise: str = "trie", temperature: float = 1.0
) -> Tensor:
    """Log-probability (items, levels) of each token of each item, every item behind its own copy of the prompt.

    No cache, no mask, no padding; the children that a trie allows come from a dict of prefixes.
    """
    allowed: dict[tuple[int, ...], set[int]] = defaultdict(set)
    rows = [[token for token in row if token >= 0] for row in tokens.tolist()]
    for row in rows:
        for level, token in enumerate(row):
            allowed[tuple(row[:level])].add(token)
    if model.config.is_encoder_decoder:
        start = torch.full((len(rows), 1), model.config.decoder_start_token_id)
        answers = torch.cat([start, tokens.clamp(min=0)], dim=1)
        logits = model(input_ids=prompt.expand(len(rows), -1), decoder_input_ids=answers).logits.float() / temperature
    else:
        batch = torch.cat([prompt.expand(len(rows), -1), tokens.clamp(min=0)], dim=1)
        logits = model(input_ids=batch).logits[:, len(prompt) - 1 :].float() / temperature
    found = []
    for item, row in enumerate(rows):
        levels = []
        for level in range(tokens.shape[1]):
            if level >= len(row):
                levels.append(logits.new_zeros(()))
                continue
            scores = logits[item, level]
            over = scores if normalise == "vocabulary" else scores[sorted(allowed[tuple(row[:level])])]
            levels.append(scores[row[level]] - over.logsumexp(dim=0))
        found.append(torch.stack(levels))
    return torch.stack(found)


def text_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows the words of the text prompt."""
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = WhitespaceSplit()
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)
    tokenizer.chat_template = chat_template
    return tokenizer


def byte_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that can write anything, with a few longer tokens as JSON has them."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("i", "n"), ("t", "e"), ('"', ":"), ("\u0120", '"'), ("{", '"')]
    words = ["<pad>", "<bos>", "<eos>", *letters, *(first + second for first, second in merges)]
    pieces = Tokenizer(BPE({word: index for index, word in enumerate(words)}, merges))
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)
    pieces.decoder = ByteLevelDecoder()
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, **special)
    tokenizer.chat_template = chat_template
    return tokenizer


def pretrained_folder(folder: Path, family: str = "qwen2", tied: bool = True, rows: int = 48, **keys: Any) -> Path:
    """A local "pretrained" model whose embedding has more rows than its tokenizer has words, as Qwen's has."""
    model = tiny_model(family, vocabulary=rows, tie_word_embeddings=tied, **keys)
    model.save_pretrained(folder)
    text_tokenizer().save_pretrained(folder)
    return folder


def scratch_backbone(ids: SemanticIds, **keys: Any) -> Backbone:
    """A fresh policy with room for prompts of 64 tokens; always the same weights."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(config={**shape, **keys}), ids.sizes, max_tokens=64)


def tiny_intrr(ids: SemanticIds, noise: float = 0.3, seed: int = 0, **sizes: Any) -> IntRR:
    """An IntRR in evaluation mode with histories of eight items; noise on its weights keeps scores far apart."""
    shape = {
        "hidden_size": 16,
        "layers": 2,
        "heads": 2,
        "inner_size": 24,
        "max_history": 8,
        "uid_size": 12,
        "assignment_size": 20,
    }
    torch.manual_seed(seed)
    model = IntRR(ids.codes, IntRRSizes(codes=ids.sizes, **{**shape, **sizes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn_like(parameter)
    return model.eval()


def cyclic_sequences(users: int, items: int, seed: int = 0) -> Sequences:
    """Everybody walks through the catalogue in order, from anywhere, for a while: the next item is certain."""
    generator = np.random.default_rng(seed)
    starts, lengths = generator.integers(0, items, users), generator.integers(4, 9, users)
    rows = [(start + np.arange(length)) % items for start, length in zip(starts, lengths, strict=True)]
    return Sequences.from_lists([f"u{user}" for user in range(users)], rows)


def task_source(
    sequences: Sequences, builder: PromptBuilder, task: str = "next_item", known: ItemTexts | None = None, seed: int = 0
) -> TaskSource:
    """A task over the training part."""
    return TaskSource(task, builder, training_windows(sequences, builder, task), known or ItemTexts(), seed)


def window_batch(builder: PromptBuilder, histories: Any, supervised: list[int], pack: bool = False) -> TrainingTokens:
    """Windows of catalogue rows as a batch of the next-item task."""
    windows = Windows(Histories.from_lists(histories), np.array(supervised))
    samples = TaskSource("next_item", builder, windows, ItemTexts(), seed=0).take(slice(None))
    return collate(samples, np.arange(len(samples)), np.ones(len(samples)), builder.pad_id, pack)


def token_arrays(
    sequences: Sequences, builder: PromptBuilder, task: str = "next_item", known: ItemTexts | None = None
) -> TokenArrays:
    """A task's token arrays, in a folder that lives as long as they do."""
    folder = TemporaryDirectory()
    write_token_arrays(task_source(sequences, builder, task, known), Path(folder.name))
    arrays = TokenArrays(Path(folder.name))
    weakref.finalize(arrays, folder.cleanup)
    return arrays


def next_items(sequences: Sequences, builder: PromptBuilder, pack: bool = False) -> TaskMixture:
    """The next-item task alone."""
    return TaskMixture([TaskPart(token_arrays(sequences, builder))], pack)


def sequence_data(sequences: Sequences, builder: PromptBuilder, *rest: Any, **named: Any) -> SequenceDataModule:
    """A SequenceDataModule over token arrays of its own."""
    return SequenceDataModule(next_items(sequences, builder), sequences, builder, *rest, **named)


def training_tokens(ids: Tensor, mask: Tensor, labels: Tensor) -> TrainingTokens:
    """A batch in which every supervised token is an answer of its own, so that the loss is the mean over tokens."""
    learned = (labels != -100).float()
    learned[:, 0] = 0.0  # nothing predicts the first token
    return TrainingTokens(ids, mask, labels, learned, learned.sum(), torch.arange(len(ids)))


def quiet_trainer(**settings: Any) -> lightning.Trainer:
    """A Trainer on the CPU that writes nothing and says nothing."""
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "inference_mode": False,
    }
    return lightning.Trainer(**{**defaults, **settings})
