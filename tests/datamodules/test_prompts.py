"""Prompt builders, token id by token id: what training sees is what rollouts and evaluation see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from datamodules.prompts import ItemPrompts, PromptBuilder, SidPrompts, prompt_builder
from datamodules.rollout_prompts import TrainingPrompts
from datamodules.sequences import HeldOutPrompts, training_windows
from datamodules.splits import Sequences
from datamodules.tasks import ItemTexts, TaskSource
from dig.config import UserError
from dig.config.schema import BackboneConfig, PromptConfig
from dig.generation import SidVocabulary
from dig.generation.backbone import IntRRBackbone, build_backbone

IDS = tiny.ragged_catalogue()
SCRATCH = build_backbone(BackboneConfig(config={"hidden_size": 32, "intermediate_size": 32}), IDS.sizes, 64).tokenizer
CHAT = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} <eos> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
TOKENS = torch.tensor([[10, 20, 30], [10, 20, 31], [11, 21, -1], [12, -1, -1]])
WORD = {word: index for index, word in enumerate(tiny.WORDS)}


def builder(style: str = "compact", max_history: int = 4, tokens: torch.Tensor = TOKENS) -> PromptBuilder:
    return SidPrompts(tokens, SCRATCH, PromptConfig(style=style, max_history=max_history), from_scratch=True)


def text_builder(chat_template: str | None = None, max_history: int = 4) -> tuple[PromptBuilder, torch.Tensor]:
    tokenizer = tiny.text_tokenizer(chat_template)
    tokens = SidVocabulary.add_to(tokenizer, IDS.sizes).encode(IDS.codes)
    return SidPrompts(tokens, tokenizer, PromptConfig(max_history=max_history), from_scratch=False), tokens


def rows(*items: int) -> np.ndarray:
    return np.array(items, dtype=np.int64)


def ids(words: str) -> list[int]:
    return [WORD[word] for word in words.split()]


def spelled(tokens: torch.Tensor, history: np.ndarray) -> list[int]:
    return [token for row in history for token in tokens[row].tolist() if token >= 0]


def test_compact_prompts_are_the_start_token_and_the_sid_tokens():
    found = builder().prompts([rows(0, 2), rows(3), rows(1, 3, 2)])
    assert found.input_ids.tolist() == [
        [1, 10, 20, 30, 11, 21, 0],
        [1, 12, 0, 0, 0, 0, 0],
        [1, 10, 20, 31, 12, 11, 21],
    ]
    assert found.attention_mask.tolist() == [[1] * 6 + [0], [1, 1] + [0] * 5, [1] * 7]


def test_text_prompts_are_words_around_the_sid_tokens():
    build, tokens = text_builder()
    found = build.prompts([rows(1, 2)])
    expected = [1, *ids("A customer bought these items, oldest first:"), *spelled(tokens, rows(1, 2))]
    assert found.input_ids.tolist() == [[*expected, *ids("The next item is:")]]
    assert (found.attention_mask == 1).all()


def test_text_prompts_speak_the_chat_template():
    build, tokens = text_builder(CHAT)
    expected = [*ids("user A customer bought these items, oldest first:"), *spelled(tokens, rows(5))]
    assert build.prompts([rows(5)]).input_ids.tolist() == [[*expected, *ids("The next item is: <eos> assistant")]]


def test_auto_is_compact_from_scratch_and_text_otherwise():
    assert builder("auto").style == "compact" and text_builder()[0].style == "text"
    with pytest.raises(UserError, match=r"prompt\.style=text") as caught:
        builder("text")
    assert caught.value.exit_code == 2


def test_a_tokenizer_without_a_start_token_starts_with_its_end_token():
    tokenizer = tiny.text_tokenizer()
    tokenizer.bos_token = None
    build = SidPrompts(TOKENS, tokenizer, PromptConfig(style="compact"), from_scratch=False)
    assert build.prompts([rows(3)]).input_ids.tolist() == [[2, 12]]


@pytest.mark.parametrize("max_history", [1, 2, 3])
def test_the_latest_items_are_kept(max_history: int):
    history = rows(0, 1, 2, 3)
    for build, tokens in ((builder(max_history=max_history), TOKENS), text_builder(max_history=max_history)):
        full = [*build.prefix, *spelled(tokens, history[-max_history:]), *build.suffix]
        assert build.prompts([history]).input_ids.tolist() == [full]


histories = st.lists(
    st.lists(st.integers(0, 23), min_size=1, max_size=9).map(lambda items: rows(*items)), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(histories, st.integers(1, 6), st.sampled_from(["compact", "text"]))
def test_packing_agrees_with_a_slow_loop(batch: list[np.ndarray], max_history: int, style: str):
    tokens = tiny.token_sequences(IDS)
    build = builder(max_history=max_history, tokens=tokens)
    if style == "text":
        build, tokens = text_builder(max_history=max_history)
    expected = [[*build.prefix, *spelled(tokens, history[-max_history:]), *build.suffix] for history in batch]
    width = max(len(row) for row in expected)
    found = build.prompts(batch)
    assert found.input_ids.tolist() == [row + [0] * (width - len(row)) for row in expected]
    assert found.attention_mask.tolist() == [[1] * len(row) + [0] * (width - len(row)) for row in expected]


@settings(max_examples=60, deadline=None)
@given(histories.filter(lambda batch: all(len(window) > 1 for window in batch)), st.data())
def test_compact_training_rows_supervise_the_last_items_alone(batch: list[np.ndarray], data: st.DataObject):
    counts = [data.draw(st.integers(1, len(window) - 1)) for window in batch]
    tokens = tiny.token_sequences(IDS)
    found = tiny.window_batch(builder(max_history=9, tokens=tokens), batch, counts)
    for row, (window, count) in enumerate(zip(batch, counts, strict=True)):
        context, answer = [1, *spelled(tokens, window[:-count])], spelled(tokens, window[-count:])
        padding = found.input_ids.shape[1] - len(context) - len(answer)
        assert found.input_ids[row].tolist() == context + answer + [0] * padding
        assert found.labels[row].tolist() == [-100] * len(context) + answer + [-100] * padding
        assert found.attention_mask[row].tolist() == [1] * (len(context) + len(answer)) + [0] * padding


def test_text_training_rows_supervise_the_answer_alone():
    build, tokens = text_builder()
    windows = [rows(1, 2, 3), rows(4, 0)]
    found = tiny.window_batch(build, windows, [1, 1])
    for row, window in enumerate(windows):
        prompt, answer = build.prompts([window[:-1]]).input_ids[0].tolist(), spelled(tokens, window[-1:])
        length = len(prompt) + len(answer)
        assert found.input_ids[row, :length].tolist() == prompt + answer
        assert found.labels[row].tolist()[:length] == [-100] * len(prompt) + answer
        assert not found.attention_mask[row, length:].any() and (found.labels[row, length:] == -100).all()


@pytest.mark.parametrize("style", ["compact", "text", "chat"])
@pytest.mark.parametrize("max_history", [3, 20])
def test_training_rollouts_and_evaluation_spell_a_history_with_the_same_ids(style: str, max_history: int):
    generator = np.random.default_rng(0)
    sequences = Sequences.from_lists(["u", "v", "w"], [generator.integers(0, 24, length) for length in (9, 5, 6)])
    build, tokens = text_builder(CHAT if style == "chat" else None, max_history)
    if style == "compact":
        tokens = tiny.token_sequences(IDS)
        build = builder(max_history=max_history, tokens=tokens)

    # GRPO's prompts are those of the builder for the history before the target, and evaluation's, too.
    rollouts = TrainingPrompts(sequences, build, per_user=99)
    expected = [(part[:end], part[end]) for part in sequences.train for end in range(1, len(part))]
    assert len(rollouts) == len(expected)
    prompts = {}
    for index, (history, target) in enumerate(expected):
        batch = rollouts[[index]]
        assert torch.equal(batch.input_ids, build.prompts([history]).input_ids)
        assert batch.targets.tolist() == [target]
        prompts[tuple(history[-max_history:].tolist()), int(target)] = batch.input_ids[0].tolist()
    examples = sequences.held_out("valid")
    held_out = HeldOutPrompts(examples, build)
    for index, history in enumerate(examples.histories):
        assert torch.equal(held_out[[index]].input_ids, build.prompts([history]).input_ids)

    # In a training row, the tokens before a supervised item are the prompt that asks for it.
    seen = 0
    windows, arrays = training_windows(sequences, build), tiny.next_items(sequences, build)
    for index, (window, count) in enumerate(zip(windows.histories, windows.supervised, strict=True)):
        row, labels = arrays[[index]].input_ids[0].tolist(), arrays[[index]].labels[0]
        for position in range(len(window) - count, len(window)):
            prompt = prompts.get((tuple(window[:position].tolist()), int(window[position])))
            if prompt is None:  # a later window starts in the middle of a history longer than it
                assert style == "compact" and max_history == 3 and position < max_history
                continue
            answer = spelled(tokens, window[position : position + 1])
            assert row[: len(prompt) + len(answer)] == prompt + answer
            assert labels[len(prompt) : len(prompt) + len(answer)].tolist() == answer
            seen += 1
    assert seen >= (len(expected) if max_history == 20 or style != "compact" else 6)


def test_a_history_is_its_latest_items_and_nothing_else():
    prompts = ItemPrompts(24, PromptConfig(max_history=3)).prompts([np.array([5, 1, 9, 2]), np.array([7])])
    assert prompts.input_ids.tolist() == [[1, 9, 2], [7, 0, 0]]
    assert prompts.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_relation_is_its_task_an_item_and_the_neighbours():
    builder = ItemPrompts(4, PromptConfig(max_history=8))
    sequences = tiny.cyclic_sequences(6, 4)
    near = np.array([[1, 2, 3], [0, -1, -1], [-1, -1, -1], [2, 1, -1]])
    known = ItemTexts(collaborative=near, semantic=near[::-1])
    windows = training_windows(sequences, builder)
    for name, first, rows in (
        ("collaborative", 4, {0: [1, 2, 3], 1: [0], 3: [2, 1]}),
        ("semantic", 5, {0: [2, 1], 2: [0], 3: [1, 2, 3]}),
    ):
        samples = TaskSource(name, builder, windows, known, seed=0).take(slice(None))
        assert [row.tolist() for row in samples.tokens] == [[first, item, *named] for item, named in rows.items()]
        assert samples.supervised.tolist() == samples.responses.tolist() == [len(named) for named in rows.values()]


def test_prompts_of_rows_have_no_words():
    with pytest.raises(ValueError, match="no words; tasks that read text need a tokenizer"):
        ItemPrompts(4, PromptConfig()).words(["red mug"])


def test_a_backbone_has_one_builder_for_training_rollouts_and_serving():
    """By its tokenizer, or catalogue rows where it has none; histories are cut to what its model reads."""
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    language = build_backbone(BackboneConfig(config=small | {"max_position_embeddings": 21}), IDS.sizes, max_tokens=99)
    build = prompt_builder(language, IDS, PromptConfig(max_history=9))
    assert isinstance(build, SidPrompts) and build.short_of_context and build.context == 21
    assert torch.equal(build.item_tokens, language.vocabulary.encode(IDS.codes))
    assert build.max_history == (21 - 1) // IDS.codes.shape[1] - 1
    rows_of_items = prompt_builder(IntRRBackbone(tiny.tiny_intrr(IDS)), IDS, PromptConfig(max_history=9))
    assert isinstance(rows_of_items, ItemPrompts) and len(rows_of_items.item_tokens) == len(IDS)
    assert rows_of_items.max_history == 9 and not rows_of_items.short_of_context
