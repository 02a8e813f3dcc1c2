"""Backbones: the policies that SFT and GRPO train, built fresh, saved, and loaded from a folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dig.config import UserError, nearest
from dig.config.schema import BackboneConfig, SFTConfig
from dig.engine.console import say
from dig.engine.lazy import transformers
from dig.engine.own_files import widen_modes
from dig.engine.ranks import global_rank
from dig.engine.weights import load_complete
from dig.generation.causal_paths import next_token_loss
from dig.generation.factory import NotCausalError, as_path_model, causal_paths, check_intrr, check_paths
from dig.generation.intrr import IntRR, intrr_vocabulary, is_intrr
from dig.generation.intrr_paths import intrr_losses
from dig.generation.lora import FrozenBase, add_lora, frozen_base, merge_lora
from dig.generation.path_model import PathModel, TrainingRows
from dig.generation.sid_rows import fold_rows, start_among_words, start_at_texts, start_from_scratch
from dig.generation.tree_paths import without_adapters
from dig.generation.trie import CatalogueTrie
from dig.generation.vocabulary import SidVocabulary, read_tokenizer, save_tokenizer, scratch_tokenizer, scratch_words
from dig.pretrained import check_memory, resolve_model
from dig.received.models import check_model_folder, check_vocabulary

__all__ = [
    "Backbone",
    "IntRRBackbone",
    "ItemTitles",
    "LanguageBackbone",
    "build_backbone",
    "load_backbone",
    "load_base",
    "save_backbone",
    "scratch_model",
]

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)
"""What transformers raises for a folder that is not a model's."""
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


class ItemTitles(NamedTuple):
    """What the codes of a catalogue stand for, in words.

    Attributes:
        texts: of each item, such as its title.
        codes: (items, levels) of each item, without a collision suffix.
    """

    texts: Sequence[str | None]
    codes: Tensor


@dataclass
class Backbone(ABC):
    """A policy: a model that spells items, and how prompts and items are written for it.

    Attributes:
        model: the model, possibly with adapters.
        vocabulary: where the tokens are that spell items.
        tokenizer: of its prompts; None where a prompt is the rows of a history's items.
        from_scratch: whether nothing was learned before, so that it knows no words.
        base: what its adapters stand on, which checkpoints leave out; None where all of the model is theirs.
        packs_rows: whether several samples may lie in a row of a training batch.
        can_shard: whether its weights may be shared out over ranks.
    """

    model: Any
    vocabulary: SidVocabulary
    tokenizer: Any
    from_scratch: bool
    base: FrozenBase | None = None
    packs_rows: ClassVar[bool]
    can_shard: ClassVar[bool]

    @property
    def paths(self) -> PathModel:
        """The model as search, sampling and scoring ask it."""
        return as_path_model(self.model)

    @abstractmethod
    def supervised_loss(
        self, batch: TrainingRows, trie: CatalogueTrie, config: SFTConfig
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What supervised fine-tuning minimises, a differentiable 0-d tensor, and values to log by name."""

    @abstractmethod
    def missing_dropout(self, config: SFTConfig) -> float:
        """Probability of the dropout that the model lacks and a training has to add from outside."""

    @abstractmethod
    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes what :func:`load_backbone` reads; ``metadata`` goes into formats of dig's own."""

    def remember(self) -> None:
        """Computes once what stays the same for as long as nothing is trained; many models have nothing of the kind."""
        return

    def forget(self) -> None:
        """Ends such a time."""
        return


@dataclass
class LanguageBackbone(Backbone):
    """A causal language model with its tokenizer, SID tokens included."""

    packs_rows = True
    can_shard = True

    def supervised_loss(
        self, batch: TrainingRows, trie: CatalogueTrie, config: SFTConfig
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted cross-entropy of the supervised tokens."""
        levels = self.vocabulary if config.softmax == "level" else None
        loss = next_token_loss(causal_paths(self.model), batch, config.label_smoothing, levels)
        return loss, {"loss": loss}

    def missing_dropout(self, config: SFTConfig) -> float:
        """A small model on a small catalogue needs it, a pretrained one has what it was trained with."""
        return config.dropout if self.from_scratch else 0.0

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes model (safetensors) and tokenizer, which plain transformers loads; adapters and composed rows are
        folded into the weights first.

        Raises:
            UserError: AutoTokenizer reads the tokenizer otherwise than it is.
        """
        model = merge_lora(self.model)
        fold_rows(model)
        model.save_pretrained(folder)
        widen_modes(folder, folder.glob("*.safetensors"))
        save_tokenizer(self.tokenizer, folder, self.vocabulary)

    @classmethod
    def load(cls, folder: Path, sizes: list[int]) -> Self:
        """Reads what :meth:`save` wrote, or a folder of transformers with the SID tokens in its tokenizer."""
        check_model_folder(folder, transformers.AutoModelForCausalLM)
        try:
            model = load_complete(transformers.AutoModelForCausalLM.from_pretrained, folder, str(folder), dtype="auto")
            tokenizer = read_tokenizer(folder)[0]
        except _UNREADABLE as error:
            raise UserError(f"{folder} cannot be loaded: {_reason(error)}") from None
        if tokenizer.pad_token_id is None:
            raise UserError(f"{folder}: its tokenizer names no padding token, so tokenizer_config.json is not its own")
        vocabulary = SidVocabulary.of(tokenizer, sizes)
        check_vocabulary(folder, model, int(vocabulary.ids.max()), tokenizer)
        check_paths(model, str(folder))
        return cls(model, vocabulary, tokenizer, from_scratch=len(tokenizer) == len(scratch_words(sizes)))


class IntRRBackbone(Backbone):
    """An IntRR: an item is one vector, and its codes are chosen behind the model (``items.representation=one``).

    Args:
        model: the model; its vocabulary is that of the codes only.
        alignment: weight λ of the alignment of its input side.
    """

    packs_rows = False  # it computes no padding anyway
    can_shard = False  # it is small, as baselines are

    def __init__(self, model: IntRR, alignment: float = 0.0) -> None:
        super().__init__(model, intrr_vocabulary(model.sizes.codes), tokenizer=None, from_scratch=True)
        self.alignment = alignment

    def supervised_loss(
        self, batch: TrainingRows, trie: CatalogueTrie, config: SFTConfig
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Rows of a batch are histories of items, one per row; the last of each is a target only."""
        given = batch.attention_mask[:, :-1] > 0
        targets = batch.labels[:, 1:]
        learned = given & (targets >= 0)
        histories = torch.where(given & batch.attention_mask[:, 1:].bool(), batch.input_ids[:, :-1], -1)
        losses, alignment = intrr_losses(self.model, trie, histories, torch.where(learned, targets, -1))
        loss = (losses * batch.weights[:, 1:][learned]).sum() / batch.responses
        return loss + self.alignment * alignment, {"loss": loss, "alignment": alignment}

    def missing_dropout(self, config: SFTConfig) -> float:
        """It has dropout of its own."""
        return 0.0

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes dig's own format: weights, with ``metadata`` in them, and sizes."""
        self.model.save(folder, metadata)

    def remember(self) -> None:
        """Computes all items' vectors."""
        self.model.remember()

    def forget(self) -> None:
        """Forgets them."""
        self.model.forget()

    @classmethod
    def load(cls, folder: Path, sizes: list[int]) -> Self:
        """Reads what :meth:`save` wrote."""
        model = IntRR.load(folder)
        if model.sizes.codes != list(sizes):
            raise UserError(
                f"{folder} holds an IntRR for {model.sizes.codes} codes per level; it belongs to other Semantic IDs"
            )
        check_intrr(model, str(folder))
        return cls(model)


def load_backbone(folder: Path, sizes: list[int]) -> Backbone:
    """Loads what :meth:`Backbone.save` wrote.

    Raises:
        UserError: the model belongs to other Semantic IDs, its files lack weights, or its scores are not its own.
    """
    return IntRRBackbone.load(folder, sizes) if is_intrr(folder) else LanguageBackbone.load(folder, sizes)


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Writes what :func:`load_backbone` reads; the same as ``backbone.save(folder)``."""
    backbone.save(folder)


def build_backbone(
    config: BackboneConfig,
    sizes: list[int],
    max_tokens: int,
    vectors: Sequence[Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    titles: ItemTitles | None = None,
) -> LanguageBackbone:
    """A fresh policy for Semantic IDs with ``sizes`` codes per level.

    Args:
        config: a pretrained model's name or folder, or the configuration of one from scratch.
        sizes: codes per level, the suffix level included.
        max_tokens: longest prompt and answer; a model from scratch gets that many positions.
        vectors: (tokens, dim) vectors of the tokens of each level, where SID rows start; None starts them at random.
        dtype: of a pretrained model's weights.
        titles: at whose words the SID rows of a pretrained model start, in place of vectors.

    Raises:
        UserError: if the model cannot be had or is not a causal language model.
    """
    if config.pretrained:
        backbone = _pretrained(config, sizes, vectors, dtype, titles)
    else:
        backbone = _from_scratch(config, sizes, max_tokens)
        if vectors:
            start_from_scratch(backbone.model, backbone.vocabulary, vectors)
    if config.gradient_checkpointing:
        _checkpoint_gradients(backbone.model, config)
    return backbone


def _pretrained(
    config: BackboneConfig,
    sizes: list[int],
    vectors: Sequence[Tensor] | None,
    dtype: torch.dtype,
    titles: ItemTitles | None,
) -> LanguageBackbone:
    name = str(config.pretrained)
    where = f"backbone.pretrained={name}"
    source = resolve_model(name, where)
    check_memory(source, where, dtype.itemsize)
    try:
        model = load_complete(transformers.AutoModelForCausalLM.from_pretrained, source, where, dtype=dtype)
        tokenizer, instead_of = read_tokenizer(source)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # what some give where no file is
            raise ValueError("there is no tokenizer")
    except _UNREADABLE as error:
        raise UserError(
            f"{where} cannot be loaded: {_reason(error)}; without a network, name the folder of "
            "a causal language model in safetensors with its tokenizer"
        ) from None
    if instead_of is not None:
        _say(
            f"{where}: its tokenizer.json is read as it is written; AutoTokenizer takes a {instead_of} by the model's "
            "type, which splits words otherwise"
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"{where}: its tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    # The width of the embedding may exceed the tokenizer's length (Qwen pads it): rows are resized to the larger one,
    # and the new rows are those of the SID tokens wherever they lie.
    used = max(tokenizer.get_vocab().values()) + 1
    vocabulary = SidVocabulary.add_to(tokenizer, sizes)
    check_paths(model, where)
    _resize(model, max(used, int(vocabulary.ids.max()) + 1), where)
    start_among_words(model, vocabulary, len(tokenizer), vectors)
    if titles is not None:
        texts = tokenizer([text or "" for text in titles.texts], add_special_tokens=False)["input_ids"]
        start_at_texts(model, vocabulary, texts, titles.codes)
    _tell_ends(model, tokenizer)
    if not config.lora.enabled:
        return LanguageBackbone(model, vocabulary, tokenizer, from_scratch=False)
    rows = vocabulary.ids.tolist()
    model = add_lora(model, config.lora, rows)
    return LanguageBackbone(model, vocabulary, tokenizer, from_scratch=False, base=frozen_base(model, name, rows))


def load_base(source: str, tokens: int, dtype: torch.dtype, where: str) -> Any:
    """The model that adapters of a checkpoint stand on, with as many embedding rows as it had under them.

    Args:
        source: its name or folder.
        tokens: rows of the embedding.
        dtype: of the weights.
        where: what holds the adapters, for messages.

    Raises:
        UserError: it cannot be had.
    """
    told = f"{where} holds adapters alone, of {source}"
    try:
        folder = resolve_model(source, told)
        model = load_complete(transformers.AutoModelForCausalLM.from_pretrained, folder, told, dtype=dtype)
    except UserError as error:
        raise UserError(f"{error}; put it there, or pass backbone=") from None
    except _UNREADABLE as error:
        raise UserError(f"{told}, which cannot be loaded: {_reason(error)}; put it there, or pass backbone=") from None
    _resize(model, tokens, told)
    return model


@torch.no_grad()
def _resize(model: Any, tokens: int, where: str) -> None:
    """Makes room for tokens, and keeps what the model says of those that it has.

    Raises:
        UserError: it says something else of them.
    """
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    if output is None:
        raise UserError(f"{where}: a {model.config.model_type} has no output layer with a row for each token")
    if output.weight is not embedding.weight:
        # transformers loads a head of its own under a flag that says otherwise, and ties it when rows are added
        for settings in {id(part): part for part in (model.config, model.config.get_text_config())}.values():
            if getattr(settings, "tie_word_embeddings", False):
                settings.tie_word_embeddings = False
                _say(f"{where}: its output layer has weights of its own, so tie_word_embeddings becomes false")
    words = embedding.weight.shape[0]
    probe = torch.arange(4, min(words, 10)).unsqueeze(0)
    training = model.training
    before = model.eval()(input_ids=probe).logits
    model.resize_token_embeddings(max(words, tokens), mean_resizing=False)
    after = model(input_ids=probe).logits[..., : before.shape[-1]]
    model.train(training)
    if not torch.allclose(after, before, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise UserError(
            f"{where}: with new rows a {model.config.model_type} says something else of words: its logits "
            f"move by {(after - before).abs().max():.1e}"
        )


def _tell_ends(model: Any, tokenizer: Any) -> None:
    """Lets the saved model pad and end as the tokenizer does that it is trained with."""
    settings, ends = model.generation_config, model.generation_config.eos_token_id
    ends = [] if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [ends]
    settings.pad_token_id = tokenizer.pad_token_id
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        settings.eos_token_id = [*ends, tokenizer.eos_token_id] if ends else tokenizer.eos_token_id
    try:
        settings.validate(strict=True)
    except ValueError:  # what a model was published with; it could not be saved with a change
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=settings.bos_token_id, eos_token_id=settings.eos_token_id, pad_token_id=settings.pad_token_id
        )


def _say(message: str) -> None:
    if global_rank() == 0:
        say(message)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _checkpoint_gradients(model: Any, config: BackboneConfig) -> None:
    causal = without_adapters(model)
    if not getattr(causal, "supports_gradient_checkpointing", False):
        raise UserError(f"backbone.gradient_checkpointing: {causal.config.model_type} cannot do it", exit_code=2)
    causal.gradient_checkpointing_enable({"use_reentrant": False})
    if causal is not model:  # adapters
        causal.enable_input_require_grads()


def scratch_model(config: BackboneConfig, vocabulary: int, max_tokens: int) -> nn.Module:
    """The model of a backbone from scratch, as transformers makes it of the configuration.

    Args:
        config: the backbone's.
        vocabulary: number of its tokens.
        max_tokens: positions, where the configuration does not say.

    Raises:
        UserError: with exit code 2: there is no such architecture, or it has no such key.
        Exception: whatever an architecture's code does with keys that do not fit each other.
    """
    model_type = _known_model_type(config)
    keys = {**_SMALL, **config.config} if model_type == "qwen2" else dict(config.config)
    if "num_attention_heads" in config.config and hasattr(
        transformers.AutoConfig.for_model(model_type), "num_key_value_heads"
    ):
        # transformers' defaults are those of large models; as many as heads always fits
        keys["num_key_value_heads"] = config.config.get("num_key_value_heads", config.config["num_attention_heads"])
    keys = {"max_position_embeddings": max_tokens, **keys}
    keys |= {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    del keys["model_type"]
    model: nn.Module = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(model_type, **keys), trust_remote_code=False
    )
    return model


def _from_scratch(config: BackboneConfig, sizes: list[int], max_tokens: int) -> LanguageBackbone:
    tokenizer = scratch_tokenizer(sizes)
    model_type = config.config.get("model_type", _SMALL["model_type"])
    try:
        model: Any = scratch_model(config, len(tokenizer), max_tokens)
    except UserError:
        raise
    except Exception as error:  # whatever an architecture's code does with keys that do not fit each other
        raise UserError(
            f"backbone.config makes no {model_type}: {' '.join(str(error).split())[:300]}", exit_code=2
        ) from None
    where = f"backbone.config.model_type={model_type}"
    try:
        check_paths(model, where, exit_code=2)
    except NotCausalError as error:
        is_encoder = getattr(model.config, "is_decoder", None) is False
        remedy = "; backbone.config.is_decoder=true makes it one" if is_encoder else ""
        raise UserError(f"{error}{remedy}", exit_code=2) from None
    return LanguageBackbone(model, SidVocabulary.of(tokenizer, sizes), tokenizer, from_scratch=True)


def _architectures() -> Mapping[str, str]:
    names: Mapping[str, str] = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return names


def _known_model_type(config: BackboneConfig) -> str:
    """The architecture, after a look at whether it is one and has the keys that are set."""
    model_type = str(config.config.get("model_type", _SMALL["model_type"]))
    if model_type not in _architectures():
        hint = nearest(model_type, _architectures())
        raise UserError(
            f"backbone.config.model_type={model_type} is not a causal language model of transformers"
            f"{f'; did you mean {hint}?' if hint else ''}",
            exit_code=2,
        )
    settings = transformers.AutoConfig.for_model(model_type)
    text = settings.get_text_config()
    if text is not settings:
        supported = text.model_type in _architectures()
        inner = f"; name the language model alone, {text.model_type}" if supported else ""
        raise UserError(
            f"backbone.config.model_type={model_type} is a language model with other parts around it{inner}",
            exit_code=2,
        )
    unknown = [key for key in config.config if not hasattr(settings, key)]
    if unknown:
        hint = nearest(unknown[0], [*vars(settings), *settings.attribute_map])
        raise UserError(
            f"backbone.config.{unknown[0]}: {model_type} has no such key{f'; did you mean {hint}?' if hint else ''}",
            exit_code=2,
        )
    return model_type
