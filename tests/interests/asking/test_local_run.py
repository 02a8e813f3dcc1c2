"""A real model with random weights is asked: its babble is kept as failures, never as interests."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.tiny import WORDS, byte_tokenizer, pretrained_folder, text_tokenizer, tiny_model

from dig.config import UserError
from dig.interests.asking import progress, run
from dig.interests.asking.progress import JobProgress, JobResult
from dig.interests.asking.run import Limits, ask, read_interests_of
from dig.interests.models import local
from dig.interests.models.response import Completion

TEMPLATE = "{{ bos_token }}{% for turn in messages %} {{ turn['content'] }}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pretrained_folder(tmp_path / "model", "llama", rows=len(WORDS), max_position_embeddings=2048)
    text_tokenizer(TEMPLATE).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_babble_is_a_failure(store, make, folder: Path):
    who = make["model"](None, str(folder), kind="transformers", format="none", max_output=6, batch_size=4)
    job = make["job"](who, make["catalogue"](7))
    (result,) = ask([job], store, "c", Limits())
    assert result.answered == 0 and result.failed.total() == result.done == 7
    assert set(result.failed) <= {"no JSON", "empty", "cut short"}
    assert result.requests == 14  # each had a second chance
    missing = Counter()
    (frame,) = read_interests_of(who, job.questions(), store, missing)
    assert frame.is_empty() and missing.total() == 7
    failures = store.failures([question.key for question in job.questions()])
    assert {failure.item_id for failure in failures} == {f"I{row}" for row in range(7)}
    (again,) = ask([job], store, "c", Limits())
    assert (again.known, again.requests) == (7, 0)
    assert store.spending("c").tokens_out > 0


def test_a_local_model_and_an_endpoint_work_side_by_side(server, store, make, folder: Path, monkeypatch):
    monkeypatch.setattr(local.TransformersModel, "answers", all_good)
    items = make["catalogue"](30)
    jobs = [
        make["job"](make["model"](None, str(folder), kind="transformers", batch_size=2), items),
        make["job"](make["model"](server().url, "remote"), items),
    ]
    mine, theirs = ask(jobs, store, "c", Limits())
    assert (mine.answered, theirs.answered) == (30, 30)
    assert store.spending("c", jobs[0].model.identity).tokens_in == 30 * 11


def all_good(model, talks, schemas):
    return enumerate(map(good, talks))


def good(talk) -> Completion:
    ref = talk[1].text.split('ref="')[1][:8]
    answer = f'{{"ref": "{ref}", "interests": [{{"interest": "slow mornings", "confidence": 0.5}}]}}'
    return Completion(answer, 11, 3)


def test_limits_hold_for_local_models_too(store, make, folder: Path, monkeypatch):
    monkeypatch.setattr(local.TransformersModel, "answers", all_good)
    job = make["job"](make["model"](None, str(folder), kind="transformers", batch_size=2), make["catalogue"](30))
    (result,) = ask([job], store, "c", Limits(max_requests=11))
    assert result.stopped == "mining.max_requests=11" and result.answered == result.requests == 11
    spent = store.spending("c")
    assert (spent.paid, spent.unknown) == (11, 0)


def test_a_model_that_is_not_there_is_one_line(store, make):
    job = make["job"](make["model"](None, "/no/such/folder", kind="transformers"), make["catalogue"](1))
    with pytest.raises(UserError, match=r"mining\.models\.\S+: .*no/such/folder"):
        ask([job], store, "c", Limits())


@pytest.fixture
def writing(tmp_path: Path) -> Path:
    """A model of random weights that can write anything."""
    tiny_model("llama", vocabulary=len(byte_tokenizer()), max_position_embeddings=4096).save_pretrained(
        tmp_path / "bytes"
    )
    byte_tokenizer("{% for turn in messages %}{{ turn['content'] }}{% endfor %}").save_pretrained(tmp_path / "bytes")
    return tmp_path / "bytes"


def test_random_weights_that_are_held_answer_every_question(store, make, writing: Path, capsys):
    """Entries 3 and 4: every answer is one; the first three are shown, and what they hold."""
    who = make["model"](
        None, str(writing), kind="transformers", max_output=1000, batch_size=3, prompt="interests-small-v1"
    )
    job = make["job"](who, make["catalogue"](7))
    (result,) = ask([job], store, "c", Limits())
    assert (result.answered, result.requests, result.failed.total()) == (7, 7, 0)
    assert result.tokens == store.spending("c").tokens_out > 0
    shown = [line for line in capsys.readouterr().out.splitlines() if " lamp number " in line]
    assert len(shown) == 3 and all("\u2192" in line and len(line) < 300 + len(str(writing)) for line in shown)


KILLED = """
import os, signal, sys
from pathlib import Path
from conftest import catalogue, job, model
from dig.interests.asking.run import Limits, ask
from dig.interests.asking.store import AnswerStore
from dig.interests.models.local import TransformersModel

batches, whole = [], TransformersModel.answers

def answers(self, talks, schemas):
    batches.append(len(talks))
    for number, answer in enumerate(whole(self, talks, schemas)):
        if len(batches) == 2 and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield answer

TransformersModel.answers = answers
who = model(None, sys.argv[1], kind="transformers", max_output=1000, batch_size=3, prompt="interests-small-v1")
with AnswerStore(Path(sys.argv[2])) as store:
    ask([job(who, catalogue(10))], store, "c", Limits())
"""


def test_a_kill_in_the_second_batch_loses_no_answer_that_had_ended(store, make, writing: Path):
    """Entry 3: answers are kept row by row; the next run asks about the others alone."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(writing), str(store.path)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    who = make["model"](
        None, str(writing), kind="transformers", max_output=1000, batch_size=3, prompt="interests-small-v1"
    )
    job = make["job"](who, make["catalogue"](10))
    keys = [question.key for question in job.questions()]
    kept = store.answers(keys)
    assert len(kept) == 4  # the first batch, and what had ended of the second
    (result,) = ask([job], store, "c", Limits())
    assert (result.known, result.answered, result.requests) == (4, 6, 6)
    assert {key: store.answers([key])[key] for key in kept} == kept
    spent = store.spending("c")
    assert (spent.paid, spent.unknown) == (10, 2)  # two were under way when it was killed


def test_complete_interests_of_an_answer_that_was_cut_are_kept_and_counted(store, make, writing: Path, monkeypatch):
    """Entry 3: what a model said before it met the limit of its length is not thrown away."""

    def cut(model, talks, schemas):
        for place, talk in enumerate(talks):
            whole = good(talk)
            more = whole.text[:-2] + ', {"interest": "quiet evenings with'
            yield place, whole._replace(text=more, note="cut short")

    monkeypatch.setattr(local.TransformersModel, "answers", cut)
    who = make["model"](None, str(writing), kind="transformers")
    job = make["job"](who, make["catalogue"](5))
    (result,) = ask([job], store, "c", Limits())
    assert (result.answered, result.cut, result.requests) == (5, 5, 5)
    assert "5 answered (5 of them cut short: their complete interests are kept)" in result.summary()
    missing = Counter()
    (frame,) = read_interests_of(who, job.questions(), store, missing)
    assert frame["text"].to_list() == ["slow mornings"] * 5 and not missing


def test_vllm_is_asked_for_as_many_as_it_answers_in_half_a_minute(store, make, monkeypatch):
    """A call of vLLM is kept as a whole, so it must not be long."""
    calls, clock = [], [0.0]

    class Slow:
        def answers(self, talks, schemas):
            calls.append(len(talks))
            clock[0] += 0.25 * len(talks)
            yield from enumerate(map(good, talks))

    monkeypatch.setattr(run, "local_model", lambda name, config: Slow())
    monkeypatch.setattr(run.time, "monotonic", lambda: clock[0])
    job = make["job"](make["model"](None, kind="vllm"), make["catalogue"](500))
    (result,) = ask([job], store, "c", Limits())
    assert result.answered == 500
    assert calls == [8, 32, 64, 120, 120, 120, 36]


class Bars:
    """No terminal."""

    disable = True

    def add_task(self, *_: object, **__: object) -> int:
        return 0


def test_a_line_at_the_first_answer_and_every_half_minute(monkeypatch):
    """Entry 3: no silence, with tokens per second and the time that is left."""
    said, now = [], [0.0]
    monkeypatch.setattr(progress, "say", said.append)
    result = JobResult("smol", 600)
    shown = JobProgress(Bars(), [result], lambda: now[0])
    now[0] = 20.0
    shown.begin(result)  # it has been loaded
    result.requests = 8
    for now[0] in (25.0, 49.0, 51.0, 60.0):
        shown.beat()
    assert said == ["asking: smol: 0 of 600 items, no answer yet in 31 s"]
    now[0], result.answered, result.tokens = 84.0, 32, 1280
    shown.show(result)
    assert said[1:] == ["asking: smol: 32 of 600 items, 2.0 s an item, 20 tokens/s, about 19 min left"]
    now[0], result.answered = 100.0, 40
    shown.show(result)
    assert len(said) == 2
    now[0], result.cost = 115.0, 0.5
    shown.beat()
    assert said[2].startswith("asking: smol: 40 of 600 items, $0.50, 2.4 s an item")
    result.answered = 600
    now[0] = 300.0
    shown.beat()
    assert len(said) == 3
    other = JobProgress(Bars(), [result], lambda: now[0])
    result.answered, result.known = 1, 0
    other.show(result)
    assert len(said) == 4  # the first one at once
