"""Asking models, keeping a million answers, and merging and labelling 100,000 interests.

Requests go to a local server in a process of its own: at once, and with 200 ms an answer at a concurrency of 64, where
64 / 0.2 s = 320 a second is the ideal. The peer in the same run is the official client alone, called as often at once
and keeping nothing. The million items and their answers are made up; each part runs in a process of its own, whose
peak of memory is told. Interests to merge and to label are Beauty's imported ones and the lexical miner's where
``DIG_DATA_ROOT`` is set, those of a generated shop elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from dig.config import load_config
from dig.config.schema import LabelConfig, ModelConfig
from dig.interests.asking.progress import JobResult
from dig.interests.asking.question import PromptedModel, item_evidence, load_prompt, prompted_model, questions_of
from dig.interests.asking.run import AskingJob, Limits, ask, read_interests_of
from dig.interests.asking.store import AnswerStore, unanswered

SERVER = Path(__file__).resolve().parents[1] / "tests" / "support" / "chat_server.py"
INSTANT, DELAYED, LATENCY, CONCURRENCY = 4000, 4800, 0.2, 64
MILLION, INTERESTS_AN_ITEM = 1_000_000, 5


WORDS = [
    "quiet",
    "morning",
    "garden",
    "travel",
    "kettle",
    "studio",
    "winter",
    "camping",
    "office",
    "picnic",
    "wooden",
    "light",
    "steel",
    "gift",
    "evening",
    "kitchen",
    "soft",
    "bright",
]


def catalogue(count: int) -> pl.DataFrame:
    """Items with a title and a description of the length that shops write."""
    draw = np.random.default_rng(0)
    texts = pl.Series([" ".join(np.take(WORDS, draw.integers(len(WORDS), size=18))) for _ in range(2000)])
    rows = pl.DataFrame({"row": np.arange(count)}).with_columns(
        described=texts.gather(np.arange(count) % len(texts)), titled=texts.gather(np.arange(count) * 7 % len(texts))
    )
    return rows.select(
        item_id=pl.format("I{}", "row"),
        title=pl.format("{} {}", pl.col("titled").str.head(40), "row"),
        description="described",
    )


def miner(url: str | None) -> PromptedModel:
    """A model with our prompt."""
    config = ModelConfig(model="bench", base_url=url, concurrency=CONCURRENCY, price_in=1.0, price_out=2.0)
    return prompted_model("bench", config, load_prompt("interests-v1", "prompt"), "interests", 8)


def questions(model: PromptedModel, items: pl.DataFrame) -> Callable[[], Iterator]:  # type: ignore[type-arg]
    """A question an item."""
    return lambda: questions_of(model, ((evidence, "") for evidence in item_evidence(items, {}, {})))


# --- requests


def with_server(latency: float, work: Callable[[str, Path], float]) -> float:
    """Seconds of ``work(url, folder)`` beside a server with this latency."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.json").write_text(json.dumps({"latency": latency}))
        server = subprocess.Popen([sys.executable, str(SERVER), str(folder)])  # noqa: S603 - our own file
        try:
            while not (folder / "url").is_file():
                time.sleep(0.02)
            return work((folder / "url").read_text(), folder)
        finally:
            server.kill()
            server.wait()


def ours(url: str, folder: Path, count: int) -> float:
    """Seconds of a run that keeps everything."""
    model, items = miner(url), catalogue(count)
    with AnswerStore(folder / "answers.sqlite") as store:
        started = time.perf_counter()
        (result,) = ask([AskingJob(model, questions(model, items), count)], store, "bench", Limits(max_cost=100.0))
        seconds = time.perf_counter() - started
    assert result.answered == count, result.summary()
    return seconds


def bare_client(url: str, count: int) -> float:
    """Seconds of the official client alone, asked the same."""
    from openai import AsyncOpenAI

    model, items = miner(url), catalogue(count)

    async def run() -> float:
        client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
        waiting = iter([question.messages(model) for question in questions(model, items)()])
        started = time.perf_counter()

        async def work() -> None:
            for messages in waiting:
                turns: Any = [{"role": message.role, "content": message.text} for message in messages]
                answer = await client.chat.completions.create(
                    model="bench", messages=turns, temperature=0, max_tokens=1024
                )
                json.loads(answer.choices[0].message.content or "")

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        seconds = time.perf_counter() - started
        await client.close()
        return seconds

    return asyncio.run(run())


# --- a million items


def fill(path: Path) -> dict[str, float]:
    """A store with an answer of five interests for each of a million items, and the request behind each."""
    model, items = miner(None), catalogue(MILLION)
    items.write_parquet(path.parent / "items.parquet")
    said = [f"{first} {second} at home" for first in ("quiet", "warm", "bright") for second in ("evenings", "mornings")]
    told = json.dumps(
        [{"interest": text, "confidence": 0.8, "evidence": text, "source": "text"} for text in said[:INTERESTS_AN_ITEM]]
    )
    steps = json.dumps([f"The description says that it is made for {text}." for text in said])
    with AnswerStore(path) as store:
        answers = (
            (
                each.key,
                each.evidence.item_id,
                f'{{"ref": "{each.evidence.ref}", "reasoning": {steps}, "interests": {told}}}',
            )
            for each in questions(model, items)()
        )
        store.add(model.identity, answers)
        keys = (each.key for each in questions(model, items)())
        store._base.execute("BEGIN")
        store._base.executemany(
            "INSERT INTO requests (campaign, asker, key, state, sent, tokens_in, tokens_out, cost) "
            "VALUES ('bench', 1, ?, 1, 0, 600, 200, 0.001)",
            ((key,) for key in keys),
        )
        store._base.execute("COMMIT")
    return {}


def resume(path: Path) -> dict[str, float]:
    """What a run that was finished finds left to do."""
    model, items = miner(None), pl.read_parquet(path.parent / "items.parquet")
    result = JobResult("bench", MILLION)
    with AnswerStore(path) as store:
        started = time.perf_counter()
        left = sum(1 for _ in unanswered(questions(model, items)(), store, (), result))
        spent = store.spending("bench")
        seconds = time.perf_counter() - started
    assert left == 0 and result.known == spent.requests == MILLION
    return {"seconds": seconds}


def read(path: Path) -> dict[str, float]:
    """All answers to interests on disk, as the stage reads them."""
    model, items = miner(None), pl.read_parquet(path.parent / "items.parquet")
    parts = path.parent / "parts"
    parts.mkdir(exist_ok=True)
    started = time.perf_counter()
    with AnswerStore(path) as store:
        for number, frame in enumerate(read_interests_of(model, questions(model, items)(), store, Counter())):
            frame.write_parquet(parts / f"{number:06d}.parquet")
    pl.scan_parquet(parts / "*.parquet").sink_parquet(path.parent / "interests.parquet")
    seconds = time.perf_counter() - started
    rows = pl.scan_parquet(path.parent / "interests.parquet").select(pl.len()).collect().item()
    assert rows == MILLION * INTERESTS_AN_ITEM
    return {"seconds": seconds}


PARTS = {"fill": fill, "resume": resume, "read": read}


def in_a_process(part: str, path: Path) -> dict[str, float]:
    """A part in a process of its own: its figures, and the most memory that it held."""
    done = subprocess.run([sys.executable, __file__, part, str(path)], check=True, capture_output=True, text=True)  # noqa: S603
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


# --- merging and labelling


def merge_and_label() -> dict[str, float]:
    """Seconds of both for at least 100,000 interests: encoding their texts first, everything else after that."""
    from datamodules.preparation import prepare
    from datamodules.sources import read_source
    from dig.embeddings import compose_texts, load_text_encoder
    from dig.interests import (
        InterestVectors,
        distinct_phrases,
        label_interests,
        merge_interests,
        mine_lexical,
        read_interests,
    )

    real = "DIG_DATA_ROOT" in os.environ
    with tempfile.TemporaryDirectory() as folder:
        if not real:
            from datamodules.sources.quickstart import write_shop

            write_shop(Path(folder), 9000, 6000, 7)
        config = load_config("beauty") if real else load_config(None, [f"data.path={folder}"])
        prepared = prepare(read_source(config.data), config.data)
    items = prepared.catalogue
    config.mining.max_interests = 8
    mined = [mine_lexical(items, {}, config.mining)]
    if real:
        mined.append(read_interests(Path(config.mining.imports[0]), set(items["item_id"])).interests)
    else:  # a second opinion: the same phrases, every third in other words
        mined.append(
            mined[0].with_columns(
                miner=pl.lit("other"),
                text=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.col("text") + " ones").otherwise(pl.col("text")),
            )
        )
    interests = pl.concat(mined)
    config.embedding.interests = "none"
    phrases, texts = distinct_phrases(interests), compose_texts(items, {}, interests.clear(), config.embedding)
    encoder = load_text_encoder(config.embedding.text_encoder, max_tokens=config.embedding.max_tokens)
    started = time.perf_counter()
    vectors = InterestVectors(phrases, encoder.encode(phrases).numpy(), encoder.encode(texts).numpy())
    encoded = time.perf_counter()
    merged = merge_interests(interests, vectors.phrases, vectors.of_phrases, config.mining.merge_similarity)
    joined = time.perf_counter()
    _, report = label_interests(merged.interests, items, {}, prepared.sequences.train, LabelConfig(), 42, vectors)
    return {
        "interests": len(interests),
        "encode": encoded - started,
        "merge": joined - encoded,
        "label": time.perf_counter() - joined,
        "auc": report["held_out"]["roc_auc"],
    }


def main() -> None:
    """Measures and prints."""
    console = Console()
    instant = with_server(0.0, lambda url, folder: ours(url, folder, INSTANT))
    bare = with_server(0.0, lambda url, folder: bare_client(url, INSTANT))
    delayed = with_server(LATENCY, lambda url, folder: ours(url, folder, DELAYED))
    rate, ideal = INSTANT / instant, CONCURRENCY / LATENCY
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.sqlite"
        _, resumed, loaded = (in_a_process(part, path) for part in PARTS)
        size = sum(file.stat().st_size for file in path.parent.glob("answers.sqlite*"))
    labelled = merge_and_label()
    seconds = labelled["merge"] + labelled["label"]
    table = Table(title="interests", title_justify="left")
    for heading in ("what", "figure"):
        table.add_column(heading)
    for what, figure in (
        ("requests a second, a server that answers at once", f"{rate:.0f}"),
        ("the official client alone, keeping nothing", f"{INSTANT / bare:.0f}"),
        (f"requests a second, 200 ms, {CONCURRENCY} at once (ideal {ideal:.0f})", f"{DELAYED / delayed:.0f}"),
        ("a million items: seconds to find that nothing is left", f"{resumed['seconds']:.1f}"),
        ("a million items: seconds from answers to interests", f"{loaded['seconds']:.1f}"),
        ("a million items: peak memory of either, MB", f"{resumed['peak_mb']:.0f}, {loaded['peak_mb']:.0f}"),
        ("store, bytes an interest", f"{size / MILLION / INTERESTS_AN_ITEM:.0f}"),
        (f"{labelled['interests']:,.0f} interests merged and labelled, seconds", f"{seconds:.1f}"),
        ("encoding their distinct phrases and the items, seconds, once", f"{labelled['encode']:.1f}"),
    ):
        table.add_row(what, figure)
    console.print(table)
    figures = {
        "requests_per_second": rate,
        "ideal_rate_fraction": DELAYED / delayed / ideal,
        "bare_client_fraction": bare / instant,
        "resume_seconds_1m": resumed["seconds"],
        "peak_gb_1m": max(resumed["peak_mb"], loaded["peak_mb"]) / 1000,
        "bytes_an_interest": size / MILLION / INTERESTS_AN_ITEM,
        "merge_label_seconds_100k": seconds / labelled["interests"] * 1e5,
    }
    print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        found = PARTS[sys.argv[1]](Path(sys.argv[2]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(json.dumps({**found, "peak_mb": peak}))
    else:
        main()
