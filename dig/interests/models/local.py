"""A chat model, with or without eyes, run in this process by transformers."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.utils import logging as hub_logging
from jinja2 import TemplateError
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
)
from transformers.utils import logging as transformers_logging

from dig.config.errors import UserError
from dig.config.schema import ModelConfig
from dig.engine.console import printable, warn
from dig.engine.weights import load_complete
from dig.interests.models import open_picture
from dig.interests.models.decoding import Decoder, runs
from dig.interests.models.held import Grammar, GrammarProcessor, Holder
from dig.interests.models.response import Completion, Message, in_order

__all__ = ["TransformersModel", "check_folder", "fold_system"]

_REASON = 300
"""Letters of a library's message that are shown."""


class TransformersModel:
    """A model from a folder or from the hub; nothing but safetensors and transformers' own code is loaded.

    Args:
        config: the model, how it decodes, and how many conversations go into a batch.
        device: where it runs; None takes the GPU if there is one.

    Raises:
        UserError: if it cannot be loaded or has no usable chat template.
    """

    def __init__(self, config: ModelConfig, device: torch.device | str | None = None) -> None:
        self._name = config.name
        self._vision = config.vision
        self._format = config.format
        self._batch_size = config.batch_size
        self._warned = False
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        with _quiet():
            self._model, self._reader = _load(config, self._device)
            self._tokenizer = self._reader.tokenizer if self._vision else self._reader
            self._template = _Template(self._name, self._reader, self._tokenizer, self._vision)
            self._ends = _prepare_decoding(self._model, self._tokenizer, config)
        loops = not self._vision and runs(self._model)  # pictures and other memories than keys and values: `generate`
        self._decoder = (
            Decoder(self._model, self._ends, config.max_output, config.temperature or 0.0) if loops else None
        )

    def answers(
        self, conversations: Sequence[Sequence[Message]], schemas: Sequence[Mapping[str, Any]] | None = None
    ) -> Iterator[tuple[int, Completion]]:
        """The place of a conversation and its answer, each as soon as it ends; the longest conversations come first.

        A picture that cannot be decoded is not shown to the model.

        Args:
            conversations: what is said to the model.
            schemas: the JSON schema of each answer. It is held token by token where ``format`` is ``json_schema``;
                ``json_object`` holds to any JSON object, ``none`` and no schemas to nothing.

        Raises:
            ValueError: if there is a picture and the model does not see.
            UserError: if a single conversation does not fit into the GPU's memory, the template refuses it, or the
                schema cannot be held.
        """
        if not self._vision and any(turn.picture for conversation in conversations for turn in conversation):
            raise ValueError(f"mining model {self._name} does not see, but was given a picture")
        # The longest come first: what does not fit shows at once, and a batch has little to pad.
        left = sorted(range(len(conversations)), key=lambda row: _size(conversations[row]), reverse=True)
        while left:
            rows, ended = left[: self._batch_size], set()
            held = self._grammars([schemas[row] for row in rows] if schemas is not None else [None] * len(rows))
            try:
                for place, completion in self._answer([conversations[row] for row in rows], held):
                    ended.add(rows[place])
                    yield rows[place], completion
            except torch.OutOfMemoryError:
                self._shrink(len(rows))
            left = [row for row in left if row not in ended]

    def complete(
        self, conversations: Sequence[Sequence[Message]], schemas: Sequence[Mapping[str, Any]] | None = None
    ) -> list[Completion]:
        """As :meth:`answers`, as a list in the order of the conversations."""
        return in_order(self.answers(conversations, schemas))

    def _grammars(self, schemas: Sequence[Mapping[str, Any] | None]) -> list[Grammar | None]:
        """What each answer is held to."""
        if self._format == "json_object":
            schemas = [None if schema is None else {"type": "object"} for schema in schemas]
        if self._format == "none" or not any(schemas):
            return [None] * len(schemas)
        return [None if schema is None else self._holder.grammar(schema) for schema in schemas]

    @cached_property
    def _holder(self) -> Holder:
        return Holder(self._name, self._tokenizer, self._model.get_output_embeddings().weight.shape[0])

    def _shrink(self, tried: int) -> None:
        """Halves the batch, for good: what follows is hardly shorter."""
        if tried == 1:
            raise UserError(
                f"mining model {self._name}: the GPU's memory does not suffice for one conversation; "
                "take a smaller model, a smaller dtype or fewer tokens in max_output"
            )
        if not self._warned:
            warn(
                f"mining model {self._name}: out of GPU memory with {tried} conversations at a time, continuing with "
                "fewer; lower batch_size"
            )
        self._warned = True
        self._batch_size = tried // 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _answer(
        self, conversations: list[Sequence[Message]], held: list[Grammar | None]
    ) -> Iterator[tuple[int, Completion]]:
        """The answers of a batch."""
        prompts = [self._prompt(conversation) for conversation in conversations]
        if self._decoder is not None:
            ids = self._tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]
            fitting = [row for row, each in enumerate(ids) if len(each) < (self._decoder.context or len(each) + 1)]
            for row in sorted(set(range(len(ids))) - set(fitting)):
                yield row, Completion("", len(ids[row]), 0, "too long")
            for written in self._decoder.answers(
                [ids[row] for row in fitting], [held[row] for row in fitting], len(ids)
            ):
                row, note = fitting[written.row], "cut short" if written.cut else ""
                yield row, Completion(self._text(written.tokens), len(ids[row]), written.length, note)
            return
        for shown in (True, False):  # processors want pictures in each conversation of a batch or in none
            rows = [row for row, prompt in enumerate(prompts) if bool(prompt.pictures) is shown]
            if rows:
                completions = self._generate([prompts[row] for row in rows], [held[row] for row in rows])
                yield from zip(rows, completions, strict=True)

    def _prompt(self, conversation: Sequence[Message]) -> _Prompt:
        turns, pictures = [], []
        for turn in conversation:
            picture = open_picture(turn.picture) if turn.picture else None
            turns.append(turn if picture else turn._replace(picture=None))
            pictures += [picture] if picture else []
        return _Prompt(self._template.render(turns), pictures)

    @torch.inference_mode()
    def _generate(self, prompts: list[_Prompt], held: list[Grammar | None]) -> list[Completion]:
        with _quiet():
            inputs = self._encode(prompts)
            begin = inputs["input_ids"].shape[1]
            grammars = [grammar for grammar in held if grammar is not None]
            processors = [GrammarProcessor(grammars, begin, self._ends)] if grammars else []
            written = self._model.generate(**inputs, logits_processor=LogitsProcessorList(processors))[
                :, begin:
            ].tolist()
        read = inputs["attention_mask"].sum(dim=1).tolist()
        return [self._completion(tokens, count) for tokens, count in zip(written, read, strict=True)]

    def _encode(self, prompts: list[_Prompt]) -> dict[str, Tensor]:
        """What the model takes, padded on the left; input_ids and attention_mask are (batch, tokens)."""
        texts = [prompt.text for prompt in prompts]
        settings = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
        if not self._vision:  # the template writes the special tokens
            encoded = self._tokenizer(texts, add_special_tokens=False, **settings)
            return {name: encoded[name].to(self._device) for name in ("input_ids", "attention_mask")}
        # Templates of processors leave the first token to the tokenizer, unless they write it themselves.
        begin = self._tokenizer.bos_token
        settings["add_special_tokens"] = not (begin and texts[0].startswith(begin))
        pictures = [prompt.pictures for prompt in prompts] if prompts[0].pictures else None
        encoded = self._reader(text=texts, images=pictures, **settings)
        return {name: self._moved(value) for name, value in encoded.items()}

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self._device, self._model.dtype if value.is_floating_point() else value.dtype)

    def _completion(self, tokens: list[int], prompt_tokens: int) -> Completion:
        """The answer up to its end token, which counts; behind it there is padding."""
        end = next((place for place, token in enumerate(tokens) if token in self._ends), None)
        text = self._text(tokens[:end])
        if end is None:
            return Completion(text, prompt_tokens, len(tokens), "cut short")
        return Completion(text, prompt_tokens, end + 1)

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class _Prompt(NamedTuple):
    """A conversation as the template writes it, with its pictures in order."""

    text: str
    pictures: list[Image.Image]


class _Template:
    """The chat template: what it writes and whether it takes a system turn.

    A special token inside a message would end the turn or stand for a picture that is not there, so it becomes a space.
    """

    def __init__(self, name: str, reader: Any, tokenizer: Any, vision: bool) -> None:
        self._name = name
        self._vision = vision
        self._source = reader if getattr(reader, "chat_template", None) else tokenizer
        if not self._source.chat_template:
            raise UserError(f"mining model {name} has no chat template; take a model that is made for chat")
        written = str(self._source.chat_template)
        added = tokenizer.added_tokens_decoder.values()
        tokens = {str(token) for token in added if token.special or str(token) in written}
        tokens |= {str(getattr(reader, f"{kind}_token", None) or "") for kind in ("image", "video", "audio")}
        longest_first = sorted((token for token in tokens if token.strip()), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._takes_system = True
        self._takes_system = self._probe()

    def render(self, conversation: Sequence[Message]) -> str:
        """The text before the answer; a turn's picture is a placeholder in it."""
        try:
            return self._render(conversation)
        except (TemplateError, TypeError) as error:
            raise UserError(
                f"mining model {self._name}: its chat template refuses the conversation: "
                f"{printable(str(error), _REASON)}"
            ) from None

    def _probe(self) -> bool:
        """Whether a system turn is taken, neither refused nor dropped."""
        question = Message("user", "What is it?")
        self.render([question])  # one that cannot do even this says so before any work is done
        try:
            return "Be brief." in self._render([Message("system", "Be brief."), question])
        except (TemplateError, TypeError):
            return False

    def _render(self, conversation: Sequence[Message]) -> str:
        turns = conversation if self._takes_system else fold_system(conversation)
        messages = [{"role": turn.role, "content": self._content(turn)} for turn in turns]
        return str(self._source.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _content(self, turn: Message) -> str | list[dict[str, str]]:
        """Text, or for a model that sees a list of parts; the pictures themselves go to the processor beside it."""
        text = self._special.sub(" ", turn.text)
        if not self._vision:
            return text
        return [*([{"type": "image"}] if turn.picture else []), {"type": "text", "text": text}]


def fold_system(conversation: Sequence[Message]) -> list[Message]:
    """The conversation with what the system says at the head of the user's first turn."""
    said = [turn.text for turn in conversation if turn.role == "system"]
    turns = [turn for turn in conversation if turn.role != "system"]
    first = next((place for place, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        return [*([Message("user", "\n\n".join(said))] if said else []), *turns]
    turns[first] = turns[first]._replace(text="\n\n".join([*said, turns[first].text]))
    return turns


def _size(conversation: Sequence[Message]) -> tuple[bool, int]:
    """Whether there is a picture, and letters of text."""
    return any(turn.picture for turn in conversation), sum(len(turn.text) for turn in conversation)


def _load(config: ModelConfig, device: torch.device) -> tuple[Any, Any]:
    """The model on its device, and its tokenizer or, for one that sees, its processor."""
    check_folder(config)
    auto_model = AutoModelForImageTextToText if config.vision else AutoModelForCausalLM
    auto_reader = AutoProcessor if config.vision else AutoTokenizer
    dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    try:  # False rather than nothing, which would ask at the terminal whether to run the repository's code
        reader = auto_reader.from_pretrained(config.model, trust_remote_code=False)
        if config.vision and not hasattr(reader, "image_processor"):
            raise ValueError("it has no processor of pictures, so it does not see")
        model = load_complete(auto_model.from_pretrained, config.model, f"mining model {config.name}", dtype=dtype)
        return model.to(device).eval(), reader
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip() or type(error).__name__
        raise UserError(
            f"mining model {config.name}: {config.model} cannot be loaded as a "
            f"{'vision-language' if config.vision else 'language'} model: "
            f"{printable(reason.splitlines()[0], _REASON)}"
        ) from None


def check_folder(config: ModelConfig) -> None:
    """Raises a UserError for a path that leads nowhere, which the libraries would take for a strange hub id."""
    path = config.model
    if (path.startswith(("/", ".", "~")) or path.count("/") > 1) and not Path(path).is_dir():
        raise UserError(f"mining model {config.name}: there is no folder {path}")


def _prepare_decoding(model: Any, tokenizer: Any, config: ModelConfig) -> set[int]:
    """Sets how the model decodes, and gives the tokens that end an answer.

    The model's own recommendations are left out: a repetition penalty would count the padding, and punish the keys
    that a JSON answer repeats.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"mining model {config.name}: its tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    ends.discard(None)
    sampling = {"do_sample": True, "temperature": config.temperature, "top_k": 0} if config.temperature else {}
    model.generation_config = GenerationConfig(
        max_new_tokens=config.max_output, pad_token_id=tokenizer.pad_token_id, eos_token_id=sorted(ends), **sampling
    )
    return ends


@contextmanager
def _quiet() -> Generator[None]:
    """Without the log lines and progress bars of transformers and of the hub."""
    loggers = (transformers_logging, hub_logging)
    levels = [logger.get_verbosity() for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
