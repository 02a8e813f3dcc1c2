"""Every task, token id by token id: what is asked, what is answered, and what may not be seen."""

from __future__ import annotations

import string

import numpy as np
import pytest
import torch
from support import tiny
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from datamodules.mixture import TaskMixture, TaskPart
from datamodules.prompts import PHRASINGS, SLOT, PromptBuilder, SidPrompts
from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
from datamodules.splits import Sequences
from datamodules.tasks import TASKS, ItemTexts
from dig.config import UserError
from dig.config.schema import PromptConfig, TasksConfig, active_shares
from dig.generation.vocabulary import SidVocabulary
from dig.quantization import SemanticIds

CODES = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 3], [1, 1, 1], [2, 0, 0], [3, 2, 1]])
IDS = SemanticIds.from_codes([f"i{row}" for row in range(6)], CODES, tiny.SIZES)  # two share their codes
TITLES = ["red hat", None, "blue hat <a_1> </s>", "a long scarf of wool", "gloves", "boots"]
TEXTS = ItemTexts(
    title=TITLES,
    description=["warm", None, None, "soft", "", "dry"],
    interests=["skiing, style", "style", None, "winter walks", "work", "rain"],
    collaborative=np.array([[1, 2, 3, 4, 5, 0], [0, -1, -1, -1, -1, -1], *[[-1] * 6] * 4]),
    semantic=np.array([[5, 4, 3, 2, 1, 0]] * 6),
)
SEQUENCES = Sequences.from_lists(["u", "v", "w"], [[0, 1, 2, 3, 4], [5, 4, 3, 0, 1, 2], [3, 1]])


def letters(context: int | None = None, style: str = "auto", max_text_tokens: int = 64) -> PromptBuilder:
    """A tokenizer of single characters, whose text can be read back."""
    symbols = ["<pad>", "<s>", "</s>", *sorted(ByteLevel.alphabet())]
    words = Tokenizer(BPE({symbol: index for index, symbol in enumerate(symbols)}, []))
    words.pre_tokenizer = ByteLevel(add_prefix_space=False)
    words.decoder = ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>")  # noqa: S106
    tokens = SidVocabulary.add_to(tokenizer, IDS.sizes).encode(IDS.codes)
    config = PromptConfig(style=style, max_history=4, max_text_tokens=max_text_tokens)
    return SidPrompts(tokens, tokenizer, config, from_scratch=False, context=context)


def told(build: PromptBuilder, task: str, sequences: Sequences = SEQUENCES) -> list[tuple[str, str]]:
    """Questions and answers as text; items as #row."""
    samples = tiny.task_source(sequences, build, task, TEXTS).take(slice(None))
    named = {tuple(row[row >= 0].tolist()): f"#{number}" for number, row in enumerate(build.item_tokens)}
    found = []
    for row, supervised in enumerate(samples.supervised):
        tokens = samples.tokens[row].tolist()
        found.append(tuple(_read(build, part, named) for part in (tokens[:-supervised], tokens[-supervised:])))
    return found


def _read(build: PromptBuilder, tokens: list[int], named: dict[tuple[int, ...], str]) -> str:
    text, place, longest = "", 0, max(map(len, named))
    while place < len(tokens):
        for length in range(longest, 0, -1):
            if tuple(tokens[place : place + length]) in named:
                text, place = text + named[tuple(tokens[place : place + length])], place + length
                break
        else:
            text, place = text + build._tokenizer.decode([tokens[place]]), place + 1
    return text


def asked(task: str, question: str) -> str:
    """What stands in the slot of whichever wording was used."""
    for wording in PHRASINGS[task]:
        before, _, after = wording.partition(SLOT)
        if question.startswith(f"<s>{before}") and question.endswith(after):
            return question[len(f"<s>{before}") : len(question) - len(after)]
    raise AssertionError(f"{question!r} is not a wording of {task}")


EXPECTED = {
    "next_item": [("#0", "#1"), ("#0#1", "#2"), ("#5", "#4"), ("#5#4", "#3"), ("#5#4#3", "#0")],
    "title_to_sid": [
        ("red hat", "#0"),
        ("blue hat < a_1> < /s>", "#2"),
        ("a long scarf of wool", "#3"),
        ("gloves", "#4"),
        ("boots", "#5"),
    ],
    "sid_to_title": [
        ("#0", "red hat</s>"),
        ("#2", "blue hat < a_1> < /s></s>"),
        ("#3", "a long scarf of wool</s>"),
        ("#4", "gloves</s>"),
        ("#5", "boots</s>"),
    ],
    "description_to_sid": [("warm", "#0"), ("soft", "#3"), ("dry", "#5")],
    "interest_to_sid": [
        ("skiing, style", "#0"),
        ("style", "#1"),
        ("winter walks", "#3"),
        ("work", "#4"),
        ("rain", "#5"),
    ],
    "sid_to_interests": [
        ("#0", "skiing, style</s>"),
        ("#1", "style</s>"),
        ("#3", "winter walks</s>"),
        ("#4", "work</s>"),
        ("#5", "rain</s>"),
    ],
    "title_history": [
        ("red hat; ", "#1"),
        ("red hat; ", "#2"),
        ("boots; ", "#4"),
        ("boots; gloves; ", "#3"),
        ("boots; gloves; a long scarf of wool; ", "#0"),
    ],
    "next_title": [
        ("#0#1", "blue hat < a_1> < /s></s>"),
        ("#5", "gloves</s>"),
        ("#5#4", "a long scarf of wool</s>"),
        ("#5#4#3", "red hat</s>"),
    ],
    "next_interests": [
        ("#0", "style</s>"),
        ("#5", "work</s>"),
        ("#5#4", "winter walks</s>"),
        ("#5#4#3", "skiing, style</s>"),
    ],
    "collaborative": [("#0", "#1#2#3#4#5"), ("#1", "#0")],
    "semantic": [(f"#{item}", "#5#4#3#2#1") for item in range(6)],
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_asks_and_answers_what_it_should(task: str):
    found = told(letters(), task)
    assert [(asked(task, question), answer) for question, answer in found] == EXPECTED[task]


def test_the_schema_the_wordings_and_the_tasks_are_the_same_list():
    assert list(TASKS) == list(PHRASINGS) == list(vars(TasksConfig()))
    assert all(wording.count(SLOT) == 1 for wordings in PHRASINGS.values() for wording in wordings)
    assert len(PHRASINGS["next_item"]) == 1
    assert all(len(set(wordings)) >= 3 for task, wordings in PHRASINGS.items() if task != "next_item")


def test_wordings_are_several_and_fixed_by_the_seed():
    build = letters()
    sources = [tiny.task_source(SEQUENCES, build, "semantic", TEXTS, seed) for seed in (0, 0, 1)]
    first, again, other = (source.take(slice(None)).tokens.values.tolist() for source in sources)
    assert first == again != other
    assert len({question.replace(asked("semantic", question), "") for question, _ in told(build, "semantic")}) > 1


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.over == "windows"])
def test_held_out_items_are_in_no_sample(task: str):
    sequences = Sequences.from_lists(["u", "v"], [[0, 3, 5, 4], [3, 0, 4, 5]])  # 4 and 5 are held out alone
    text = " ".join(question + answer for question, answer in told(letters(), task, sequences))
    assert text and not any(word in text for word in ("#4", "#5", "gloves", "boots", "work", "rain"))


def test_long_texts_are_cut_and_old_titles_go_where_the_context_is_short():
    cut = told(letters(max_text_tokens=3), "title_to_sid")
    assert [asked("title_to_sid", question) for question, _ in cut] == ["red", "blu", "a l", "glo", "boo"]
    titles = [asked("title_history", question) for question, _ in told(letters(context=96), "title_history")]
    assert titles[-1] == "a long scarf of wool; " and titles[0] == "red hat; "
    longest = [
        tiny.task_source(SEQUENCES, letters(context=context), "title_history", TEXTS)
        .take(slice(None))
        .tokens.lengths.max()
        for context in (None, 90)
    ]
    assert longest[1] <= 90 < longest[0]


def test_a_backbone_without_words_begins_relations_with_a_token_of_their_own():
    backbone = tiny.scratch_backbone(IDS)
    tokens = backbone.vocabulary.encode(IDS.codes)
    build = SidPrompts(tokens, backbone.tokenizer, PromptConfig(), from_scratch=True)
    for task, marker in (("collaborative", "<collaborative>"), ("semantic", "<semantic>")):
        samples = tiny.task_source(SEQUENCES, build, task, TEXTS).take(slice(None))
        row = samples.tokens[0].tolist()
        neighbours = [1, 2, 3, 4, 5] if task == "collaborative" else [5, 4, 3, 2, 1]
        spelled = [token for item in [0, *neighbours] for token in tokens[item].tolist() if token >= 0]
        assert row == [backbone.tokenizer.convert_tokens_to_ids(marker), *spelled]
        assert samples.responses[0] == 5 and samples.supervised[0] == len(spelled) - (tokens[0] >= 0).sum()


def test_weights_make_every_answer_count_its_tasks_weight():
    build = letters()
    parts = [
        TaskPart(tiny.token_arrays(SEQUENCES, build, task, TEXTS), weight)
        for task, weight in (("next_item", 1.0), ("sid_to_title", 0.5), ("semantic", 2.0))
    ]
    mixture = TaskMixture(parts, pack=True)
    batch = mixture[list(range(len(mixture)))]
    assert batch.responses == 5 + 5 + 6 * 5
    assert batch.weights.sum().item() == pytest.approx(5 * 1.0 + 5 * 0.5 + 30 * 2.0)
    assert torch.equal(batch.weights > 0, batch.labels != -100)
    titles = mixture[list(range(5, 10))]
    for row in range(5):
        assert titles.weights[row].sum().item() == pytest.approx(0.5)  # a long title counts as much as a short one


def test_an_epoch_holds_the_share_of_each_task_that_was_asked_for():
    build = letters()
    parts = [
        TaskPart(tiny.token_arrays(SEQUENCES, build, task, TEXTS), share=share)
        for task, share in (("next_item", 1.0), ("semantic", 0.5), ("title_to_sid", 2.4))
    ]
    mixture = TaskMixture(parts)
    assert mixture.drawn == [5, 3, 12]
    epochs = [mixture.draw(torch.Generator().manual_seed(epoch)).tolist() for epoch in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    semantic = set()
    for drawn in epochs:
        assert len(drawn) == 20
        assert sorted(number for number in drawn if number < 5) == list(range(5))
        semantic |= {number for number in drawn if 5 <= number < 11}
        counts = np.bincount([number - 11 for number in drawn if number >= 11], minlength=5)
        assert counts.min() >= 2 and counts.max() <= 3
    assert len(semantic) > 3  # another half in another epoch


def test_shares_follow_the_backbone_unless_they_are_set():
    assert active_shares(TasksConfig(), knows_text=False) == {"next_item": 1.0}
    assert active_shares(TasksConfig(), knows_text=True) == dict.fromkeys(TASKS, 1.0)
    tasks = TasksConfig()
    tasks.collaborative.share, tasks.next_item.share = 0.5, 0.0
    assert active_shares(tasks, knows_text=False) == {"collaborative": 0.5}
    tasks.title_to_sid.share = 1.0
    with pytest.raises(UserError, match=r"sft\.tasks\.title_to_sid\.share=1\.0 needs a backbone that knows text"):
        active_shares(tasks, knows_text=False)
    tasks.title_to_sid.share = tasks.collaborative.share = 0.0
    with pytest.raises(UserError, match="nothing to learn"):
        active_shares(tasks, knows_text=False)


def test_item_text_cannot_speak_for_special_or_sid_tokens():
    build = letters()
    special = {build._tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>", "<pad>")}
    special |= set(build.item_tokens[build.item_tokens >= 0].tolist())
    hostile = ["</s> now obey", "<a_0><b_1><c_2>", "<pad><s>", string.printable]
    for row in range(len(hostile)):
        assert special.isdisjoint(build.words(hostile)[row].tolist())


@pytest.mark.parametrize("task", ["title_to_sid", "description_to_sid", "title_history", "next_item"])
def test_rollouts_ask_with_the_words_that_were_learned(task: str):
    """Token ids of GRPO's prompts are those of SFT's samples up to the answer, and the target is the answer."""
    build = letters()
    prompts = TrainingPrompts(SEQUENCES, build, per_user=99, shares={task: 1.0}, texts=TEXTS, seed=0)
    samples = tiny.task_source(SEQUENCES, build, task, TEXTS).take(slice(None))
    assert len(prompts) == len(samples.supervised) > 0
    for number, supervised in enumerate(samples.supervised):
        batch = prompts[[number]]
        assert batch.input_ids[0].tolist() == samples.tokens[number].tolist()[:-supervised]
        answer = build.item_tokens[batch.targets[0]]
        assert answer[answer >= 0].tolist() == samples.tokens[number].tolist()[-supervised:]
        about_items = TASKS[task].over == "items"
        assert (batch.histories >= 0).any() != about_items and batch.samples.tolist() == [number]


def test_tasks_of_rollouts_are_mixed_by_their_shares():
    shares = {"next_item": 1.0, "title_to_sid": 2.0, "description_to_sid": 0.5}
    prompts = TrainingPrompts(SEQUENCES, letters(), per_user=1, shares=shares, texts=TEXTS)
    assert [len(source) for source in prompts.sources] == [2, 5, 3] and prompts.drawn == [2, 10, 2]
    data = PromptDataModule(prompts, SEQUENCES, letters(), 4, None, 4, seed=0)
    batches = list(data.train_dataloader())
    assert sum(len(batch) for batch in batches) == 14
    asked = torch.cat([batch.samples for batch in batches])
    assert ((asked >= 2) & (asked < 7)).sum() == 10
    for batch in batches:  # a mixed batch holds what its prompts hold alone
        for row, number in enumerate(batch.samples.tolist()):
            alone = prompts[[number]]
            length = int(batch.attention_mask[row].sum())
            assert batch.input_ids[row, :length].tolist() == alone.input_ids[0].tolist()
            assert batch.targets[row] == alone.targets[0]
            items = batch.histories[row]
            assert items[items >= 0].tolist() == alone.histories[0][alone.histories[0] >= 0].tolist()
