from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from support.chat_process import ChatProcess

from dig.config.schema import ModelConfig
from dig.interests.asking.question import PromptedModel, item_evidence, load_prompt, prompted_model, questions_of
from dig.interests.asking.run import AskingJob
from dig.interests.asking.store import AnswerStore


@pytest.fixture
def server(tmp_path: Path):
    """Starts chat servers, each with a plan of its own; all end with the test."""
    running: list[ChatProcess] = []

    def start(**plan) -> ChatProcess:
        process = ChatProcess(tmp_path / f"server{len(running)}", **plan).__enter__()
        running.append(process)
        return process

    yield start
    for process in running:
        process.__exit__(None, None, None)


@pytest.fixture
def store(tmp_path: Path):
    with AnswerStore(tmp_path / "answers.sqlite") as opened:
        yield opened


def model(
    url: str | None = None, name: str = "m", purpose: str = "interests", prompt: str | None = None, **settings
) -> PromptedModel:
    given = {"model": name, "base_url": url, "backoff": 0.01, "timeout": 2.0, "price_in": 1.0, "price_out": 2.0}
    config = ModelConfig(**{**given, **settings})
    return prompted_model(name, config, load_prompt(prompt or f"{purpose}-v1", "k"), purpose, 8)


def catalogue(count: int) -> pl.DataFrame:
    words = ["quiet", "mornings", "garden", "travel", "kettle", "studio", "winter", "camping", "office", "picnic"]
    titles = [f"{words[row % 10]} {words[row // 10 % 10]} lamp number {row}" for row in range(count)]
    told = [f"Made for {words[(row * 7) % 10]} evenings and {words[(row * 3) % 10]} days." for row in range(count)]
    return pl.DataFrame({"item_id": [f"I{row}" for row in range(count)], "title": titles, "description": told})


def job(who: PromptedModel, items: pl.DataFrame, captions: dict[str, str] | None = None) -> AskingJob:
    return AskingJob(
        who, lambda: questions_of(who, ((each, "") for each in item_evidence(items, captions or {}, {}))), len(items)
    )


@pytest.fixture
def make() -> dict[str, Callable]:
    return {"model": model, "catalogue": catalogue, "job": job}
