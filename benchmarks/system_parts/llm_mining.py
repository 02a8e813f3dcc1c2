"""A local language model that mines: tokens per second held to the schema and free, and answers that can be used.

``python benchmarks/system_parts/llm_mining.py MODEL [ITEMS]``. The same model, prompts and batches in one process, one
after the other; items are the quickstart shop's. Times are the process's own CPU seconds per thread, so that other work
on the machine does not count; what a grammar forces is read but not sampled, and counts as written, as in the accounts.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from datamodules.sources import read_source
from datamodules.sources.quickstart import write_shop
from dig.config import load_config
from dig.config.schema import ModelConfig
from dig.interests.asking.answers import AnswerError
from dig.interests.asking.question import Question, item_evidence, load_prompt, prompted_model, questions_of
from dig.interests.asking.schema import answer_schema
from dig.interests.models.local import TransformersModel
from dig.interests.models.response import Completion

__all__ = ["schema_fraction"]

ITEMS, BATCH, LIMIT = 16, 8, 160


def shop_questions(model: Any, count: int) -> list[Question]:
    """Questions about the first items of a shop of 600."""
    with tempfile.TemporaryDirectory() as folder:
        write_shop(Path(folder), 600, 100, 7)
        items = read_source(load_config(None, [f"data.path={folder}"]).data).items.head(count)
    return list(questions_of(model, ((evidence, "") for evidence in item_evidence(items, {}, {}))))


def mined(model_folder: str, form: str, prompt: str, count: int) -> dict[str, float]:
    """Tokens per CPU second, CPU seconds and tokens per item, and the share of answers that can be used.

    Args:
        model_folder: the model.
        form: what its answers are held to, as ``mining.models.*.format`` has it.
        prompt: the prompt's name.
        count: items.
    """
    settings: dict[str, Any] = {"kind": "transformers", "model": model_folder, "batch_size": BATCH, "max_output": LIMIT}
    config = ModelConfig(**settings, format=form)
    asked = prompted_model("bench", config, load_prompt(prompt, "prompt"), "interests", 8)
    questions = shop_questions(asked, count)
    model = TransformersModel(config)
    conversations = [question.messages(asked) for question in questions]
    schemas = [answer_schema(asked, question.evidence) for question in questions]
    model.complete(conversations[:2], schemas[:2])  # reads the prefix, warms up
    began = time.process_time()
    completions = model.complete(conversations, schemas)
    seconds = (time.process_time() - began) / torch.get_num_threads()
    tokens = sum(completion.completion_tokens for completion in completions)
    pairs = zip(questions, completions, strict=True)
    usable = sum(_usable(asked, question, completion) for question, completion in pairs)
    return {
        "tokens_per_second": tokens / seconds,
        "seconds_per_item": seconds / count,
        "tokens_per_item": tokens / count,
        "usable": usable / count,
        "cut": sum(completion.note == "cut short" for completion in completions) / count,
    }


def _usable(asked: Any, question: Question, completion: Completion) -> bool:
    try:
        question.read(asked, completion)
    except AnswerError:
        return False
    return True


def schema_fraction(model_folder: str, count: int = ITEMS, prompt: str = "interests-small-v1") -> dict[str, float]:
    """Figures of ``make bench-llm``: held tokens per second as a fraction of free ones, and both rates of use.

    Args:
        model_folder: a plain folder of transformers.
        count: items of the shop that are asked about.
        prompt: the prompt's name.
    """
    free, held = (mined(model_folder, form, prompt, count) for form in ("none", "json_schema"))
    return {
        "schema_fraction": held["tokens_per_second"] / free["tokens_per_second"],
        **{f"schema_{name}": value for name, value in held.items()},
        **{f"free_{name}": value for name, value in free.items()},
    }


def main() -> None:
    """Measures and prints a table and, as the last line, JSON."""
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: python benchmarks/system_parts/llm_mining.py MODEL [ITEMS]")
    figures = schema_fraction(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else ITEMS)
    table = Table(title="a local model mines", title_justify="left")
    for heading in ("what", "held to the schema", "free"):
        table.add_column(heading)
    for name in ("tokens_per_second", "seconds_per_item", "tokens_per_item", "usable", "cut"):
        table.add_row(name.replace("_", " "), f"{figures[f'schema_{name}']:.2f}", f"{figures[f'free_{name}']:.2f}")
    Console().print(table)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
