"""What real servers do otherwise than the protocol says, a rule each; answers and money are never lost."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter

import pytest

from dig.interests.asking import limits
from dig.interests.asking.budget import estimate
from dig.interests.asking.run import AWAITED, Limits, answers_to, ask
from dig.interests.asking.store import SECOND_CHANCE

NO_LIMITS = Limits()
LENGTH = 3000
"""Characters of a description that makes an item's question too long for a small context."""


def long_ones(make, count: int, of_them: int):
    """Items, the first few of which have much to say."""
    items = make["catalogue"](count)
    told = [text * (LENGTH // len(text) if row < of_them else 1) for row, text in enumerate(items["description"])]
    return items.with_columns(description=__import__("polars").Series(told))


@pytest.mark.parametrize(
    ("formats", "form", "steps"),
    [
        (["json_object"], "json_schema", ["json_object"]),
        ([], "json_schema", ["json_object", "none"]),
        ([], "json_object", ["none"]),
        (["text", "json_schema"], "json_object", ["json_schema"]),
    ],
)
def test_a_refused_response_format_is_left_out_step_by_step(server, store, make, formats, form, steps, capsys):
    """Every step is told once with the key to set, nothing of it is paid, and the rest of the run keeps to it."""
    process = server(formats=formats)
    job = make["job"](make["model"](process.url, format=form), make["catalogue"](40))
    (result,) = ask([job], store, "c", NO_LIMITS)
    refused = [line for line in process.log() if line["fault"] == "400"]
    assert result.answered == 40 and len(steps) <= len(refused) <= 4 and result.requests == 40 + len(refused)
    text = capsys.readouterr().out
    assert [text.count(f"set mining.models.m.format={step}") for step in steps] == [1] * len(steps)
    assert text.count("refuses format=") == len(steps) and store.spending("c").unknown == 0


@pytest.mark.parametrize("form", ["json_schema", "json_object"])
def test_a_response_format_that_is_taken_and_ignored_is_told_once(server, store, make, form, capsys):
    """As `transformers serve` does; answers that hold by themselves are kept."""
    process = server(faults=["prose"], fault_share=0.4)
    job = make["job"](make["model"](process.url, format=form), make["catalogue"](30))
    (result,) = ask([job], store, "c", NO_LIMITS)
    text = " ".join(capsys.readouterr().out.split())
    assert result.answered == 30
    assert text.count(f"was asked for format={form} and answers otherwise (no JSON: ") == 1
    assert "does not hold its model to it" in text and ("vLLM and llama.cpp" in text) == (form == "json_schema")
    assert "answers otherwise" not in said(make, server().url, store, capsys, format=form)


def said(make, url: str, store, capsys, **settings) -> str:
    ask([make["job"](make["model"](url, "other", **settings), make["catalogue"](5))], store, "d", NO_LIMITS)
    return capsys.readouterr().out


def test_a_schema_that_is_held_but_for_its_bounds_is_told(server, store, make, capsys):
    """As llama.cpp's `maximum`: a confidence of 2.0 is no share of anything."""
    process = server(reply='{"interests": [{"interest": "quiet evenings", "confidence": 2.0}]}')
    job = make["job"](make["model"](process.url, format="json_schema"), make["catalogue"](3))
    (result,) = ask([job], store, "c", NO_LIMITS)
    assert result.failed == {"wrong shape": 3}
    assert "answers otherwise (wrong shape: interests.0.confidence: " in " ".join(capsys.readouterr().out.split())


def test_a_conversation_too_long_for_its_second_chance_keeps_the_first_answer(server, store, make):
    """Entry 1: it is paid, so it is a failure, and no later run pays for it again."""
    job = make["job"](make["model"]("http://127.0.0.1:9/v1"), make["catalogue"](5))
    prompt = len("".join(message.text for message in next(job.questions()).messages(job.model))) // 4
    process = server(faults=["prose"], fault_share=1.0, lasting=True, context=prompt + 200 + 60)
    job = make["job"](make["model"](process.url, max_output=200), make["catalogue"](5))
    (result,) = ask([job], store, "c", NO_LIMITS)
    paid, cost = len(process.paid()), store.spending("c").cost
    assert result.failed == {"no JSON": 5} and paid == 5 and not result.left and cost > 0
    keys = [question.key for question in job.questions()]
    assert all("cosy evenings" in failure.text for failure in store.failures(keys))
    (result,) = ask([job], store, "c", NO_LIMITS)
    assert (result.known, result.requests, len(process.paid())) == (5, 0, 5) and store.spending("c").cost == cost


def test_a_question_too_long_for_the_context_is_refused_by_name_and_not_asked_in_every_run(server, store, make):
    """Entry 1's sibling: it costs nothing, is told apart, and asked again once the limit or the address is another."""
    items = long_ones(make, 10, 3)
    short = make["job"](make["model"]("http://127.0.0.1:9/v1"), items.tail(1))
    context = len("".join(message.text for message in next(short.questions()).messages(short.model))) // 4 + 500
    process = server(context=context)
    job = make["job"](make["model"](process.url, max_output=400), items)
    (result,) = ask([job], store, "c", NO_LIMITS)
    assert (result.answered, result.failed) == (7, {"too long for its context": 3}) and not result.left
    assert (
        f"exceeds the available context size ({context} tokens)"
        in store.failures([next(job.questions()).key])[0].problem
    )
    asked = len(process.log())
    (result,) = ask([job], store, "c", NO_LIMITS)
    assert (result.known, result.requests, len(process.log())) == (10, 0, asked)
    assert estimate(job.model, job.questions, job.total, store).requests == 0
    shorter = make["job"](make["model"](process.url, max_output=390), items)
    assert estimate(shorter.model, shorter.questions, shorter.total, store).requests == 3
    (result,) = ask([shorter], store, "c", NO_LIMITS)
    assert (result.requests, result.known) == (3, 7)
    longer = make["job"](make["model"](server().url, max_output=100), items)  # a server with a longer context
    (result,) = ask([longer], store, "c", NO_LIMITS)
    assert (result.answered, result.done, result.known) == (3, 10, 7)


def test_a_context_too_short_for_everything_stops_after_a_few_and_says_what_helps(server, store, make):
    process = server(context=300)
    (result,) = ask([make["job"](make["model"](process.url), make["catalogue"](60))], store, "c", NO_LIMITS)
    assert result.requests <= 8 and "8 too long for its context" in result.stopped
    assert "a longer context, or lower mining.models.m.max_output=1024" in result.stopped
    assert store.spending("c").cost == 0


def test_an_answer_cut_short_is_asked_for_again_where_answers_may_be_longer(server, store, make):
    """What the advice says is done by the same command; without a higher limit nothing is paid again."""
    process = server(faults=["truncated"], fault_share=1.0, lasting=True)
    items = make["catalogue"](3)
    job = make["job"](make["model"](process.url, max_output=100), items)
    (result,) = ask([job], store, "c", NO_LIMITS)
    assert result.failed == {"cut short": 3}
    for same in (100, 50):
        (result,) = ask([make["job"](make["model"](process.url, max_output=same), items)], store, "c", NO_LIMITS)
        assert (result.known, result.requests) == (3, 0)
    (result,) = ask([make["job"](make["model"](server().url, max_output=200), items)], store, "c", NO_LIMITS)
    assert (result.known, result.answered) == (0, 3)


@pytest.mark.parametrize("end", ["budget", "interrupt", "stopped"])
def test_whatever_ends_a_run_before_a_second_chance_the_first_answer_is_not_paid_again(
    server, store, make, end, monkeypatch
):
    """Entry 1's siblings: the next run sends the second request only, which holds the first answer."""
    process = server(faults=["prose"], fault_share=1.0, latency=1.0 if end == "interrupt" else 0.0)
    job = make["job"](make["model"](process.url, concurrency=1), make["catalogue"](1))
    if end == "budget":
        ask([job], store, "c", Limits(max_requests=1))
    elif end == "interrupt":
        monkeypatch.setattr("dig.interests.asking.run.HOMEWARD", 0.1)
        with pytest.raises(KeyboardInterrupt):
            after_the_first_answer(lambda: signal.raise_signal(signal.SIGINT), process)
            ask([job], store, "c", NO_LIMITS)
    else:
        process.__exit__(None, None, None)
        dying = server(faults=["prose"], fault_share=1.0, lasting=True)
        limit = make["job"](make["model"](dying.url, concurrency=1, retries=0, breaker=1), make["catalogue"](1))
        ask([limit], store, "c", Limits(max_requests=1))
    (key,) = [question.key for question in job.questions()]
    assert store.states(job.model.identity) == {key: SECOND_CHANCE}
    missing: Counter[str] = Counter()
    assert list(answers_to(job.model, job.questions(), store, missing)) == [] and missing == {AWAITED: 1}
    assert estimate(job.model, job.questions, 1, store).requests == 1
    good = server()
    (result,) = ask([make["job"](make["model"](good.url), make["catalogue"](1))], store, "c", NO_LIMITS)
    (line,) = good.log()
    assert result.answered == 1 and result.requests == 1 and store.states(job.model.identity) == {}
    assert line["prompt_tokens"] > store_first(store), "the first answer is a part of what is asked"


def store_first(store) -> int:
    with store.transaction():
        return store._base.execute("SELECT MIN(tokens_in) FROM requests WHERE tokens_in IS NOT NULL").fetchone()[0]


def after_the_first_answer(action, process) -> None:
    def wait() -> None:
        deadline = time.monotonic() + 20
        while not process.log() and time.monotonic() < deadline:
            pass
        action()

    threading.Thread(target=wait).start()


def test_a_model_that_the_endpoint_does_not_have_is_told_with_those_that_it_has(server, store, make):
    process = server(models=["smollm2-135m", "qwen3-4b"])
    who = make["model"](process.url, "smollm-135m", concurrency=4)
    (result,) = ask([make["job"](who, make["catalogue"](9))], store, "c", NO_LIMITS)
    assert result.answered == 0 and result.requests <= 4
    assert result.stopped.startswith("HTTP 404: there is no such model or page")
    assert result.stopped.endswith("; it has smollm2-135m, qwen3-4b; set mining.models.smollm-135m.model=smollm2-135m")


def test_an_endpoint_that_answers_as_another_model_is_told_once(server, store, make, capsys):
    """As llama.cpp's server, which takes any name."""
    (result,) = ask(
        [make["job"](make["model"](server(serves="folder/SmolLM2.Q4_1.gguf").url, "qwen3"), make["catalogue"](9))],
        store,
        "c",
        NO_LIMITS,
    )
    text = " ".join(capsys.readouterr().out.split())
    assert result.answered == 9
    assert text.count("model=qwen3 is asked for, and the endpoint answers with folder/SmolLM2.Q4_1.gguf") == 1
    same = make["model"](server(serves="folder/SmolLM2.Q4_1.gguf").url, "smollm2")
    ask([make["job"](same, make["catalogue"](9))], store, "c", NO_LIMITS)
    assert "is asked for, and" not in capsys.readouterr().out


def test_a_missing_v1_is_told(server, store, make):
    process = server()
    bare = process.url.removesuffix("/v1")
    (result,) = ask([make["job"](make["model"](bare), make["catalogue"](9))], store, "c", NO_LIMITS)
    assert result.answered == 0 and result.stopped.endswith(f"; did you mean mining.models.m.base_url={bare}/v1?")


def test_a_serial_server_is_asked_by_one_or_two_and_no_request_ends_unknown(server, store, make):
    """Entry 5: 16 at once would each wait 16 times as long as one answer takes, and most would end unanswered."""
    process = server(workers=1, latency=0.2)
    who = make["model"](process.url, concurrency=16, timeout=1.5)
    begun = time.monotonic()
    (result,) = ask([make["job"](who, make["catalogue"](40))], store, "c", NO_LIMITS)
    took = time.monotonic() - begun
    spent = store.spending("c")
    assert (result.answered, result.requests, spent.unknown) == (40, 40, 0)
    late = [line["busy"] for line in process.log()][10:]
    assert sorted(late)[-3] <= 2 and max(late) <= 4 and took < 1.5 * 40 * 0.2 + 3.0


def test_a_parallel_server_is_asked_by_as_many_as_configured_soon(server, store, make):
    """Entry 5's other side; how near the ideal is tested in simulated time, as this machine may be busy."""
    process = server(latency=0.3)
    who = make["model"](process.url, concurrency=64, timeout=30.0)
    begun = time.monotonic()
    (result,) = ask([make["job"](who, make["catalogue"](960))], store, "c", NO_LIMITS)
    took, busy = time.monotonic() - begun, [line["busy"] for line in process.log()]
    assert result.answered == result.requests == 960 and busy[0] == 1
    assert max(busy[:200]) >= 60, "the ceiling is reached with the first two hundred answers"
    assert took < 960 * 0.3 / 8, "far more than eight at once, on average"


def test_the_first_time_out_is_told_at_once_and_abandoned_requests_are_not_piled_up(server, store, make, capsys):
    """Entry 5: a server that works on what nobody waits for is not asked for more meanwhile."""
    process = server(workers=1, latency=0.9)
    who = make["model"](process.url, concurrency=8, timeout=0.5, retries=2)
    (result,) = ask([make["job"](who, make["catalogue"](2))], store, "c", NO_LIMITS)
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("warning: m: no answer in 0.5 s; from now on 1 at once; raise mining.models.m.timeout") == 1
    time.sleep(1.0)  # it still works on the last one
    log = process.log()
    assert len(log) == result.requests and max(line["busy"] for line in log) <= 2
    assert result.left == {"no answer in 0.5 s": 2} and store.spending("c").unknown == result.requests


def test_a_machine_that_does_not_answer_is_told_within_seconds(store, make, monkeypatch, capsys):
    """Entry 8: packets that nobody answers are no answer that takes long."""
    import socket
    from contextlib import ExitStack, closing

    from dig.interests.models import endpoint

    monkeypatch.setattr(endpoint, "_CONNECT", 0.5)
    monkeypatch.setattr(limits, "NEVER_REACHED", 1.0)
    monkeypatch.setattr(limits, "AWAY_REST", 0.2)
    with closing(socket.socket()) as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # a queue that is full drops who comes next
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        who = make["model"](f"http://127.0.0.1:{full.getsockname()[1]}/v1", timeout=60.0, breaker=3)
        begun = time.monotonic()
        (result,) = ask([make["job"](who, make["catalogue"](5))], store, "c", NO_LIMITS)
    assert time.monotonic() - begun < 8 and "cannot be reached" in result.stopped
    assert "warning: m: http://127.0.0.1:" in capsys.readouterr().out
    assert store.spending("c").unknown == 0, "nothing was sent, so nothing can have been paid"


def test_a_server_that_is_away_for_a_while_costs_no_question_its_attempts(server, store, make, monkeypatch, capsys):
    """A restart in the middle: each outage is told at once, also where other failures were told before."""
    monkeypatch.setattr(limits, "AWAY_REST", 0.2)
    first = server(latency=0.05)
    url = first.url
    port = int(url.rsplit(":", 1)[1].partition("/")[0])
    job = make["job"](make["model"](url, retries=1, backoff=0.05, breaker=3, concurrency=4), make["catalogue"](60))

    def restart() -> None:
        while not first.log():
            pass
        first.__exit__(None, None, None)
        time.sleep(2.5)
        server(latency=0.01, port=port)

    threading.Thread(target=restart, daemon=True).start()
    (result,) = ask([job], store, "c", NO_LIMITS)
    text = " ".join(capsys.readouterr().out.split())
    assert (result.answered, result.left, result.stopped) == (60, {}, None)
    assert "cannot be reached" in text and "given up after 300 s" in text and "is there again after" in text
    spent = store.spending("c")
    assert spent.paid == 60 and spent.unknown <= 8
