"""A chat model, with or without eyes, run in this process by vLLM, which batches by itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from jinja2 import TemplateError

from dig.config.errors import UserError
from dig.config.schema import ModelConfig
from dig.engine.console import printable, progress_enabled
from dig.interests.models import chat_turn
from dig.interests.models.local import fold_system
from dig.interests.models.response import Completion, Message, in_order
from dig.pretrained import breaking, meaningful_tokens, resolve_model

__all__ = ["VllmModel"]

_REASON = 300
"""Letters of vLLM's message that are shown."""
_TOO_LONG = re.compile(r"longer than the maximum|maximum (?:model|context) length|max_model_len", re.IGNORECASE)
"""What vLLM says of a conversation that does not fit into the context."""


class VllmModel:
    """A model from a folder or from the hub; nothing but safetensors and vLLM's own code is loaded.

    It was never run with a real vLLM here, only with a stand-in. The calls were compared with vLLM's source:
    ``LLM.chat`` as of commit 10fdb8f, ``SamplingParams`` and ``StructuredOutputsParams`` as of commit 00388f6. The
    latter came with 0.11.

    Args:
        config: the model and how it decodes; ``format`` says what an answer is held to.

    Raises:
        UserError: if vLLM is not installed or is too old, or the model cannot be loaded.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._name = config.name
        self._vision = config.vision
        self._folds = False
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        try:
            vllm = import_module("vllm")
        except (ImportError, OSError) as error:  # OSError where a library of CUDA is missing
            raise UserError(
                f"mining model {config.name}: vLLM cannot be imported ({printable(str(error), _REASON)}); "
                "pip install 'dig[vllm]'"
            ) from None
        self._config, self._sampling_params = config, vllm.SamplingParams
        self._structured = None if config.format == "none" else _structured_outputs(config)
        source = resolve_model(config.model, f"mining model {config.name}", chat=True)
        try:
            self._llm: Any = vllm.LLM(
                model=source, dtype=config.dtype, load_format="safetensors", trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
            raise UserError(f"mining model {config.name}: vLLM cannot load {config.model}: {_reason(error)}") from None
        self._plain = breaking(meaningful_tokens(self._llm.get_tokenizer()))

    def answers(
        self, conversations: Sequence[Sequence[Message]], schemas: Sequence[Mapping[str, Any]] | None = None
    ) -> Iterator[tuple[int, Completion]]:
        """The answers in order, all of them when the last is there; a picture that cannot be decoded is not shown.

        Args:
            conversations: what is said to the model.
            schemas: the JSON schema of each answer, held where ``format`` is ``json_schema``; None holds to JSON alone.

        Raises:
            ValueError: if there is a picture and the model does not see.
            UserError: if vLLM refuses a conversation, for its length or because of the chat template.
        """
        if not self._vision and any(turn.picture for conversation in conversations for turn in conversation):
            raise ValueError(f"mining model {self._name} does not see, but was given a picture")
        each: Sequence[Mapping[str, Any] | None] = [None] * len(conversations) if schemas is None else schemas
        sampling = [self._sampling_of(schema) for schema in each]
        outputs = self._fitting(conversations, sampling) if conversations else []
        yield from enumerate(map(_completion, outputs))

    def complete(
        self, conversations: Sequence[Sequence[Message]], schemas: Sequence[Mapping[str, Any]] | None = None
    ) -> list[Completion]:
        """As :meth:`answers`, as a list."""
        return in_order(self.answers(conversations, schemas))

    def _sampling_of(self, schema: Mapping[str, Any] | None) -> Any:
        """How one answer is decoded and what it is held to."""
        config = self._config
        held: dict[str, Any] = {}
        if self._structured is not None:
            json_schema = config.format == "json_schema" and schema is not None
            structured = (
                self._structured(json=dict(schema or {})) if json_schema else self._structured(json_object=True)
            )
            held = {"structured_outputs": structured}
        return self._sampling_params(temperature=config.temperature or 0.0, max_tokens=config.max_output, **held)

    def _fitting(self, conversations: Sequence[Sequence[Message]], sampling: list[Any]) -> list[Any]:
        """Asks; vLLM refuses a call for one conversation that is too long, which is found by halves and left out."""
        try:
            return self._chat(conversations, sampling)
        except UserError as error:
            if not _TOO_LONG.search(str(error)):
                raise
        if len(conversations) == 1:
            return [None]
        half = len(conversations) // 2
        return [
            *self._fitting(conversations[:half], sampling[:half]),
            *self._fitting(conversations[half:], sampling[half:]),
        ]

    def _chat(self, conversations: Sequence[Sequence[Message]], sampling: list[Any]) -> list[Any]:
        """Asks; where that is refused and there are system turns, once more with these folded, and from then on."""
        if not self._folds:
            try:
                return self._ask(conversations, sampling)
            except (ValueError, TemplateError) as error:
                if not any(turn.role == "system" for conversation in conversations for turn in conversation):
                    raise UserError(f"mining model {self._name}: vLLM refuses: {_reason(error)}") from None
        try:
            outputs = self._ask([fold_system(conversation) for conversation in conversations], sampling)
        except (ValueError, TemplateError) as error:
            raise UserError(f"mining model {self._name}: vLLM refuses: {_reason(error)}") from None
        self._folds = True
        return outputs

    def _ask(self, conversations: Sequence[Sequence[Message]], sampling: list[Any]) -> list[Any]:
        messages = [
            [chat_turn(turn._replace(text=self._plain(turn.text))) for turn in conversation]
            for conversation in conversations
        ]
        outputs = self._llm.chat(messages=messages, sampling_params=sampling, use_tqdm=progress_enabled())
        return list(outputs)


def _structured_outputs(config: ModelConfig) -> Any:
    """vLLM's class of what an answer is held to."""
    params = getattr(import_module("vllm.sampling_params"), "StructuredOutputsParams", None)
    if params is None:
        raise UserError(
            f"mining model {config.name}: format={config.format} needs vLLM 0.11 or later; pip install -U "
            "'dig[vllm]', or set format: none"
        )
    return params


def _completion(output: Any) -> Completion:
    if output is None:
        return Completion("", 0, 0, "too long")
    answer = output.outputs[0]
    note = "cut short" if answer.finish_reason == "length" else ""
    return Completion(answer.text, len(output.prompt_token_ids or ()), len(answer.token_ids), note)


def _reason(error: Exception) -> str:
    """The first line of what went wrong."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0], _REASON)
