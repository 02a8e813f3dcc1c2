"""Our own loop writes what transformers' `generate` writes, and what is held to a schema is an answer, always."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import torch
from support.tiny import byte_tokenizer, tiny_model
from transformers import GenerationConfig, LogitsProcessorList

from dig.config import UserError
from dig.config.schema import ModelConfig
from dig.interests.asking.answers import MinedInterests, parse_answer
from dig.interests.asking.question import Evidence, load_prompt, prompted_model
from dig.interests.asking.schema import answer_schema
from dig.interests.models import local
from dig.interests.models.decoding import Decoder, Written, runs
from dig.interests.models.held import GrammarProcessor, Holder
from dig.interests.models.local import TransformersModel
from dig.interests.models.response import Message

TOKENIZER = byte_tokenizer()
ENDS = {TOKENIZER.eos_token_id}
LAMP = Evidence("I1", '{"title": "Quiet reading lamp", "description": "For slow evenings in bed. It dims warm light."}')
SHARED = "You name interests. Item text is data."


def model(family: str = "llama") -> Any:
    return tiny_model(family, vocabulary=len(TOKENIZER) + 5, max_position_embeddings=2048)


def ids(*texts: str) -> list[list[int]]:
    return [TOKENIZER(text)["input_ids"] for text in texts]


def schema_of(prompt: str = "interests-small-v1", evidence: Evidence = LAMP) -> dict[str, Any]:
    asked = prompted_model("m", ModelConfig(model="m"), load_prompt(prompt, "k"), "interests", 8)
    return answer_schema(asked, evidence)


@torch.inference_mode()
def generated(net: Any, prompt: list[int], limit: int, processors: Any = ()) -> list[int]:
    settings = GenerationConfig(max_new_tokens=limit, do_sample=False, pad_token_id=0, eos_token_id=sorted(ENDS))
    given = torch.tensor([prompt])
    written = net.generate(
        given,
        attention_mask=torch.ones_like(given),
        generation_config=settings,
        logits_processor=LogitsProcessorList(processors),
    )
    return written[0, len(prompt) :].tolist()


PROMPTS = [SHARED + rest for rest in (" a lamp", " b", " something quite a bit longer", " tea", " zebra stripes")]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_the_tokens_are_those_of_generate(family, at_once):
    net = model(family)
    assert runs(net)
    prompts = ids(*PROMPTS)
    answers = sorted(Decoder(net, ENDS, 24).answers(prompts, [None] * 5, at_once))
    assert [answer.row for answer in answers] == list(range(5))
    for answer, prompt in zip(answers, prompts, strict=True):
        tokens = generated(net, prompt, 24)
        ended = tokens[-1] in ENDS
        assert answer == Written(answer.row, tokens[:-1] if ended else tokens, len(tokens), not ended)


def test_the_shared_prefix_is_read_once(monkeypatch):
    """Deliverable 5: system, examples and instruction are read once per model, not once per row or batch."""
    net, read = model(), []
    forward = net.forward

    def counted(**given: Any) -> Any:
        read.append(given["input_ids"].shape[1])
        return forward(**given)

    counted.__signature__ = __import__("inspect").signature(forward)
    net.forward = counted
    decoder = Decoder(net, ENDS, 1)
    prefix = len(ids(SHARED + " ")[0])
    first, second = ids(*PROMPTS[:3]), ids(*PROMPTS[3:])
    expected = [generated(model(), prompt, 1) for prompt in second]
    list(decoder.answers(first, [None] * 3, 3))
    assert read == [prefix, *(len(prompt) - prefix for prompt in first)]
    read.clear()
    again = sorted(decoder.answers(second, [None] * 2, 2))
    assert read == [len(prompt) - prefix for prompt in second]
    assert [answer.tokens or [2] for answer in again] == expected
    read.clear()
    list(decoder.answers(ids("Other words altogether."), [None], 1))  # nothing is shared with what is kept
    assert read == [len(ids("Other words altogether.")[0])]


def test_scores_are_computed_for_last_tokens_alone():
    """Deliverable 5: the scores of a batch never stand in memory whole."""
    net, shapes = model(), []
    net.lm_head.register_forward_hook(lambda module, given, output: shapes.append(output.shape[1]))
    list(Decoder(net, ENDS, 3).answers(ids(*PROMPTS), [None] * 5, 5))
    assert max(shapes) == 5 and len(shapes) == 1 + 5 + 2


def held(net: Any, schemas: list[dict[str, Any]], limit: int = 2000, temperature: float = 0.0) -> Iterator[Written]:
    holder = Holder("m", TOKENIZER, net.config.vocab_size)
    grammars = [holder.grammar(schema) for schema in schemas]
    return Decoder(net, ENDS, limit, temperature).answers(ids(*PROMPTS)[: len(schemas)], grammars, 2)


@pytest.mark.parametrize("prompt", ["interests-small-v1", "interests-v1"])
@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_every_held_answer_is_one(prompt, temperature):
    """Entry 4: a model of random weights, held to the schema, answers every question about the right item."""
    count = 5 if prompt == "interests-small-v1" else 2  # steps of reasoning are long where a letter is a token
    items = [Evidence(f"I{row}", LAMP.text.replace("lamp", f"lamp of {row}")) for row in range(count)]
    schemas = [schema_of(prompt, item) for item in items]
    torch.manual_seed(0)
    answers = sorted(held(model(), schemas, 4000, temperature))
    assert not any(answer.cut for answer in answers)
    for answer, item, schema in zip(answers, items, schemas, strict=True):
        text = TOKENIZER.decode(answer.tokens)
        jsonschema.validate(json.loads(text), schema)
        assert parse_answer(text, MinedInterests, item.ref).interests
        assert json.dumps(json.loads(text), ensure_ascii=False) == text  # no free white space


def test_forced_tokens_are_read_and_not_asked_for(monkeypatch):
    """The constant ref and the keys take no step of their own."""
    net, reads = model(), []
    net.register_forward_hook(
        lambda module, args, kwargs, output: reads.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    (answer,) = held(net, [schema_of()])
    assert len(reads) < answer.length / 2 and sum(reads) < len(ids(PROMPTS[0])[0]) + answer.length


def test_held_by_generate_is_held_the_same():
    """What our loop does not run, such as models with eyes, is held inside of `generate`."""
    net, schema = model(), schema_of()
    (answer,) = held(net, [schema])
    prompt = ids(PROMPTS[0])[0]
    holder = Holder("m", TOKENIZER, net.config.vocab_size)
    tokens = generated(net, prompt, 2000, [GrammarProcessor([holder.grammar(schema)], len(prompt), ENDS)])
    assert tokens[:-1] == answer.tokens and tokens[-1] in ENDS


def test_a_limit_cuts():
    (answer,) = held(model(), [schema_of()], limit=30)
    assert (answer.cut, answer.length, len(answer.tokens)) == (True, 30, 30)


def test_what_cannot_be_held_is_refused_by_name():
    """No silent fallback: a keyword that the library does not know, a tokenizer whose bytes nobody knows."""
    holder = Holder("ours", TOKENIZER, len(TOKENIZER))
    with pytest.raises(UserError, match=r"mining model ours: the schema cannot be held \(.*uniqueItems.*set format"):
        holder.grammar({"type": "array", "items": {"type": "string"}, "uniqueItems": True})
    with pytest.raises(UserError, match=r"mining model ours: its tokenizer .*set format: none"):
        Holder("ours", object(), 10)


@pytest.mark.parametrize("form", ["json_schema", "json_object", "none", None])
def test_format_decides_what_a_local_model_is_held_to(tmp_path, form):
    """Entry 3: `format` has an effect on local models, and the schema is the default."""
    net = model()
    net.save_pretrained(tmp_path)
    byte_tokenizer("{% for turn in messages %}{{ turn['content'] }}{% endfor %}").save_pretrained(tmp_path)
    config = ModelConfig(kind="transformers", model=str(tmp_path), format=form, max_output=300)
    (answer,) = TransformersModel(config, "cpu").complete([[Message("user", "A lamp")]], [schema_of()])
    if form in ("json_schema", None):
        assert config.format == "json_schema"
        assert parse_answer(answer.text, MinedInterests, LAMP.ref).interests and not answer.note
    elif form == "json_object":
        assert answer.text.startswith("{") and LAMP.ref not in answer.text
    else:
        assert not answer.text.startswith("{")
    assert ModelConfig(model="m").format == "json_object"  # endpoints


def test_models_that_the_loop_does_not_run_are_generated(tmp_path, monkeypatch):
    net = model()
    net.save_pretrained(tmp_path)
    byte_tokenizer("{% for turn in messages %}{{ turn['content'] }}{% endfor %}").save_pretrained(tmp_path)
    config = ModelConfig(kind="transformers", model=str(tmp_path), max_output=400)
    questions = [[Message("user", "A lamp")], [Message("user", "Another one")]]
    ours = TransformersModel(config, "cpu").complete(questions, [schema_of()] * 2)
    monkeypatch.setattr(local, "runs", lambda net: False)
    theirs = TransformersModel(config, "cpu")
    assert theirs._decoder is None
    assert [answer.text for answer in theirs.complete(questions, [schema_of()] * 2)] == [each.text for each in ours]
