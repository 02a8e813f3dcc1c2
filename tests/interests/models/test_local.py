"""Local models: batches answer as single questions do, tokens are counted, what cannot work says so in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.tiny import WORDS, pretrained_folder, text_tokenizer
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.utils import logging as transformers_logging

from dig.config import UserError
from dig.config.schema import ModelConfig
from dig.interests.models import local
from dig.interests.models.local import TransformersModel, fold_system
from dig.interests.models.response import Completion, Message

TURNS = "{% for turn in messages %} {{ turn['role'] }} {{ turn['content'] }}{% endfor %}"
END = "{% if add_generation_prompt %} assistant{% endif %}"
CHAT = "{{ bos_token }}" + TURNS + END
REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT
DROPPING = CHAT.replace("{% for turn in messages %}", "{% for turn in messages if turn['role'] != 'system' %}")
SEEING = (
    "{% for turn in messages %} {{ turn['role'] }}{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %} <image>{% else %} {{ part['text'] }}{% endif %}{% endfor %}{% endfor %}" + END
)
QUESTIONS = [
    "A customer",
    "The next item is: A customer bought these items, oldest first:",
    "bought",
    "items, next The is:",
    "A A A these first:",
]
PATCHES = 4
"""Tokens of a picture: 16 × 16 pixels in patches of 8 × 8."""


def user(text: str, picture: Path | None = None) -> list[Message]:
    return [Message("user", text, picture)]


def text_folder(folder: Path, template: str | None = CHAT, **generation: Any) -> Path:
    """A random Llama with one row of its embedding a word, so that all it writes can be read."""
    pretrained_folder(folder, "llama", rows=len(WORDS))
    text_tokenizer(template).save_pretrained(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **generation}))
    return folder


def model_of(folder: Path, **keys: Any) -> TransformersModel:
    settings = {"max_output": 8, "batch_size": 2, **keys}
    return TransformersModel(ModelConfig(kind="transformers", model=str(folder), **settings), "cpu")


@torch.no_grad()
def slowly(folder: Path, text: str, limit: int, ends: set[int]) -> tuple[int, list[int]]:
    """Tokens of the prompt, and the likeliest token, one after the other, without cache or padding."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), text_tokenizer()
    prompt = tokenizer(f"<bos> user {text} assistant", add_special_tokens=False)["input_ids"]
    tokens = list(prompt)
    while len(tokens) < len(prompt) + limit and not (len(tokens) > len(prompt) and tokens[-1] in ends):
        tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    return len(prompt), tokens[len(prompt) :]


def words(tokens: list[int]) -> str:
    return " ".join(WORDS[token] for token in tokens if not WORDS[token].startswith("<"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return text_folder(tmp_path / "model")


@pytest.fixture
def ending(tmp_path: Path, folder: Path) -> tuple[Path, set[int]]:
    """The same model with a further end token, which the first question's answer meets third."""
    end = slowly(folder, QUESTIONS[0], 8, {2})[1][2]
    return text_folder(tmp_path / "ending", eos_token_id=[2, end]), {2, end}


def test_answers_are_the_likeliest_tokens_and_all_are_counted(ending):
    folder, ends = ending
    lengths = set()
    for question, found in zip(QUESTIONS, model_of(folder).complete([user(text) for text in QUESTIONS]), strict=True):
        prompt, tokens = slowly(folder, question, 8, ends)
        ended = tokens[-1] in ends
        text = words(tokens[:-1] if ended else tokens)
        assert found == Completion(text, prompt, len(tokens), "" if ended else "cut short")
        lengths.add(len(tokens))
    assert len(lengths) > 1 and min(lengths) <= 3  # some end early, so that a batch holds padding behind the answer


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_a_batch_answers_as_single_questions_do(ending, batch_size):
    questions = [user(text) for text in QUESTIONS]
    alone = [model_of(ending[0]).complete([question])[0] for question in questions]
    assert model_of(ending[0], batch_size=batch_size).complete(questions) == alone
    assert model_of(ending[0], batch_size=batch_size).complete(questions[::-1]) == alone[::-1]
    assert len({answer.text for answer in alone}) == len(alone)  # so that the order shows


def test_questions_of_one_length_share_a_batch(folder, monkeypatch):
    model, lengths = model_of(folder), []
    answers = model._decoder.answers
    monkeypatch.setattr(
        model._decoder, "answers", lambda ids, *rest: lengths.append([len(each) for each in ids]) or answers(ids, *rest)
    )
    model.complete([user("A"), user("A A A A A"), user("next"), user("item is: item is: is:")])
    assert lengths == [[8, 8], [4, 4]]


def test_greedy_decoding_repeats_and_ignores_the_models_own_settings(folder, tmp_path):
    questions = [user(text) for text in QUESTIONS]
    first = model_of(folder).complete(questions)
    assert model_of(folder, temperature=None).complete(questions) == first
    swayed = text_folder(tmp_path / "swayed", do_sample=True, temperature=9.0, repetition_penalty=5.0)
    assert model_of(swayed).complete(questions) == first


def test_a_temperature_samples(folder):
    model, question = model_of(folder, temperature=5.0), [user(QUESTIONS[0])]
    torch.manual_seed(0)
    drawn = [model.complete(question)[0].text for _ in range(4)]
    torch.manual_seed(0)
    assert [model.complete(question)[0].text for _ in range(4)] == drawn
    assert len(set(drawn)) > 1


def test_a_question_that_does_not_fit_into_the_context_is_told_apart(folder, tmp_path):
    """A context shorter than the prompt: no answer out of places that the model does not know, and no traceback."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 12}))
    long, short = model_of(folder).complete([user(" ".join(["item"] * 9)), user("A customer")])
    assert long == Completion("", 12, 0, "too long")
    assert short.note == "cut short" and (short.prompt_tokens, short.completion_tokens) == (5, 7)


def test_nothing_is_asked(folder):
    assert model_of(folder).complete([]) == []


@pytest.mark.parametrize("template", [REFUSING, DROPPING])
def test_a_system_turn_that_is_refused_or_dropped_goes_into_the_first_user_turn(tmp_path, template):
    conversation = [Message("system", "oldest first:"), *user("The item"), Message("assistant", "A"), *user("next")]
    folded = [*user("oldest first:\n\nThe item"), *conversation[2:]]
    found = model_of(text_folder(tmp_path / "one", template)).complete([conversation])
    taking = model_of(text_folder(tmp_path / "two"))
    assert found == taking.complete([folded])
    assert found[0].prompt_tokens != taking.complete([conversation])[0].prompt_tokens  # that one writes "system" too


def test_folding_a_system_turn():
    system = Message("system", "a")
    assert fold_system([system, *user("b", Path("p")), *user("c")]) == [*user("a\n\nb", Path("p")), *user("c")]
    assert fold_system([system, Message("assistant", "b")]) == [*user("a"), Message("assistant", "b")]
    assert fold_system([system, Message("system", "b"), *user("c")]) == user("a\n\nb\n\nc")
    assert fold_system(user("b")) == user("b")


def test_a_special_token_in_a_message_is_no_special_token(folder):
    model = model_of(folder)
    assert model.complete([user("A<eos>customer")]) == model.complete([user("A customer")])


def test_padding_falls_back_to_the_end_token(ending):
    folder, _ = ending
    questions = [user(text) for text in QUESTIONS]
    expected = model_of(folder).complete(questions)
    tokenizer = text_tokenizer(CHAT)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    model = model_of(folder)
    assert model._model.generation_config.pad_token_id == 2 and model.complete(questions) == expected
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="neither a padding nor an end token"):
        model_of(folder)


def starved(model: TransformersModel, fitting: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[str]]:
    """A model whose memory holds that many conversations; the sizes it tries, and what it says."""
    decoder = model._decoder
    owner, name = (model._model, "generate") if decoder is None else (decoder, "answers")
    tried, said, whole = [], [], getattr(owner, name)

    def scarce(*given: Any, **inputs: Any) -> Any:
        tried.append(len(given[0] if given else inputs["input_ids"]))
        if tried[-1] > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*given, **inputs)

    monkeypatch.setattr(owner, name, scarce)
    monkeypatch.setattr(local, "warn", said.append)
    return tried, said


def test_a_batch_that_does_not_fit_is_halved_and_stays_so(folder, monkeypatch):
    questions = [user(text) for text in QUESTIONS]
    expected = model_of(folder).complete(questions)
    model = model_of(folder, batch_size=8)
    tried, said = starved(model, 1, monkeypatch)
    assert model.complete(questions) == expected
    assert tried == [5, 2, 1, 1, 1, 1, 1]
    assert len(said) == 1 and str(folder) in said[0] and "5 conversations" in said[0]
    model.complete(questions)
    assert len(said) == 1


def test_a_single_conversation_that_does_not_fit(folder, monkeypatch):
    model = model_of(folder, identity="ours")
    starved(model, 0, monkeypatch)
    with pytest.raises(UserError, match="mining model ours: the GPU's memory does not suffice for one conversation"):
        model.complete([user("A"), user("A")])


def test_a_model_without_template(tmp_path):
    with pytest.raises(UserError, match="mining model ours has no chat template"):
        model_of(text_folder(tmp_path, None), identity="ours")


def test_a_template_that_refuses_the_conversation(tmp_path):
    template = "{% if messages | length > 1 %}{{ raise_exception('one\nturn') }}{% endif %}" + CHAT
    model = model_of(text_folder(tmp_path, template))
    with pytest.raises(UserError, match=r"its chat template refuses the conversation: one turn$"):
        model.complete([[*user("A"), Message("assistant", "A"), *user("A")]])
    with pytest.raises(UserError, match="its chat template refuses the conversation"):
        model_of(text_folder(tmp_path, "{{ raise_exception('never') }}"))


@pytest.mark.parametrize("vision", [False, True])
def test_a_folder_that_is_none_or_holds_no_such_model(tmp_path, vision):
    with pytest.raises(UserError, match=rf"^mining model ours: there is no folder {tmp_path}/none$"):
        model_of(tmp_path / "none", identity="ours", vision=vision)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"^mining model ours: .*cannot be loaded as a .*language model: [^\n]+$"):
        model_of(tmp_path, identity="ours", vision=vision)


def test_a_text_model_does_not_see(folder):
    with pytest.raises(UserError, match="cannot be loaded as a vision-language model: it has no processor of pictures"):
        model_of(folder, vision=True)
    with pytest.raises(ValueError, match="does not see"):
        model_of(folder).complete([user("A", Path("picture.png"))])


def test_weights_other_than_safetensors_are_not_loaded(folder):
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded as a language model"):
        model_of(folder)


def test_code_of_a_repository_is_neither_run_nor_asked_about(tmp_path, monkeypatch):
    classes = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model", "AutoTokenizer": ["code.Words", None]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "strange", "auto_map": classes}))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UserError, match="cannot be loaded as a language model"):
        model_of(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_damaged_weights(folder):
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"cannot be loaded: .*header"):
        model_of(folder)


def test_weights_that_are_missing_are_refused_by_name(tmp_path, folder):
    """Entry 12: no model answers with weights that no file gave."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    kept = {name: value for name, value in model.state_dict().items() if "layers.1.mlp" not in name}
    model.save_pretrained(folder, state_dict=kept)
    with pytest.raises(UserError, match=r"lack 3 of the weights.*model\.layers\.1\.mlp"):
        model_of(folder)


def test_the_number_format_is_the_configured_one(folder):
    assert model_of(folder, dtype="bfloat16")._model.dtype == torch.bfloat16
    assert model_of(folder)._model.dtype == torch.float32


def test_transformers_is_silent_and_restored(folder, capfd):
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_info()
    transformers_logging.enable_progress_bar()
    try:
        model_of(folder).complete([user("A")])
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity(before[0])
        (transformers_logging.enable_progress_bar if before[1] else transformers_logging.disable_progress_bar)()
    assert "".join(capfd.readouterr()) == ""


# Pictures


@pytest.fixture
def seeing(tmp_path: Path) -> Path:
    """A random LLaVA."""
    tokenizer = text_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<image>", special=True)]})
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    pixels = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        pixels,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=SEEING,
    )
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**shape, image_size=16, patch_size=8),
        text_config=LlamaConfig(**shape, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "llava")
    processor.save_pretrained(tmp_path / "llava")
    return tmp_path / "llava"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A red one, a black-and-white one with transparency, and a larger blue one."""
    made = [Image.new("RGB", (16, 16), "red"), Image.new("LA", (20, 30), 255), Image.new("RGB", (64, 40), "blue")]
    for place, picture in enumerate(made):
        picture.save(tmp_path / f"{place}.png")
    return [tmp_path / f"{place}.png" for place in range(len(made))]


def test_pictures_are_seen_and_counted(seeing, pictures):
    model = model_of(seeing, vision=True)
    blind = model.complete([user("The item")])[0]
    assert blind.prompt_tokens == 4  # user The item assistant
    found = [model.complete([user("The item", picture)])[0] for picture in pictures]
    assert {answer.prompt_tokens for answer in found} == {blind.prompt_tokens + PATCHES}
    assert len({answer.text for answer in [blind, *found]}) == 4


def test_pictures_and_plain_questions_in_a_batch_answer_as_single_ones(seeing, pictures):
    questions = [user(text, [*pictures, None, None][place]) for place, text in enumerate(QUESTIONS)]
    questions.append([*user("A", pictures[0]), Message("assistant", "item"), *user("next", pictures[1])])
    alone = [model_of(seeing, vision=True, batch_size=1).complete([question])[0] for question in questions]
    for batch_size in (2, 8):
        assert model_of(seeing, vision=True, batch_size=batch_size).complete(questions) == alone
    assert len(set(alone)) == len(alone)


def test_a_picture_that_cannot_be_decoded_is_not_sent(seeing, pictures, tmp_path):
    model = model_of(seeing, vision=True)
    (tmp_path / "page.png").write_bytes(b"<html>")
    (tmp_path / "cut.png").write_bytes(pictures[2].read_bytes()[:-40])
    broken = [tmp_path / "page.png", tmp_path / "cut.png", tmp_path / "none.png"]
    found = model.complete([user("A", pictures[0]), *(user("A", path) for path in broken), user("A")])
    assert found[1:] == model.complete([user("A")]) * 4
    assert found[0] == model.complete([user("A", pictures[0])])[0] != found[1]


def test_a_picture_token_in_the_words_of_an_item_stands_for_no_picture(seeing, pictures):
    model = model_of(seeing, vision=True)
    assert model.complete([user("A<image>item")]) == model.complete([user("A item")])
    assert model.complete([user("A<image>item", pictures[0])]) == model.complete([user("A item", pictures[0])])


def test_a_system_turn_before_a_picture(seeing, pictures):
    model = model_of(seeing, vision=True)
    conversation = [Message("system", "oldest first:"), *user("The item", pictures[0])]
    assert (
        model.complete([conversation])[0].prompt_tokens == 7 + PATCHES
    )  # system oldest first: user The item assistant


def test_pictures_do_not_fit_either(seeing, pictures, monkeypatch):
    questions = [user("A item", picture) for picture in pictures]
    model = model_of(seeing, vision=True, batch_size=3)
    expected = model.complete(questions)
    tried, _ = starved(model, 1, monkeypatch)
    assert model.complete(questions) == expected
    assert tried == [3, 1, 1, 1]


def test_pixels_have_the_models_number_format(seeing, pictures, monkeypatch):
    model, given = model_of(seeing, vision=True, dtype="bfloat16"), []
    generate = model._model.generate
    monkeypatch.setattr(model._model, "generate", lambda **inputs: given.append(inputs) or generate(**inputs))
    model.complete([user("A", pictures[0])])
    assert given[0]["pixel_values"].dtype == torch.bfloat16 and given[0]["input_ids"].dtype == torch.int64
