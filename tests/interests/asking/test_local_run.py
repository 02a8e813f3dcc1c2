"""A real model with random weights is asked: its babble is kept as failures, never as interests."""

from collections import Counter
from pathlib import Path

import pytest
from support.tiny import WORDS, pretrained_folder, text_tokenizer

from dig.config import UserError
from dig.interests.asking.run import Limits, ask, read_interests_of
from dig.interests.models import local
from dig.interests.models.response import Completion

TEMPLATE = "{{ bos_token }}{% for turn in messages %} {{ turn['content'] }}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pretrained_folder(tmp_path / "model", "llama", rows=len(WORDS))
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
