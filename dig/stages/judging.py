"""The part of `label` that asks a model whether an interest is a good one (1) or not (0)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dig.config import Config
from dig.engine.artifacts import ArtifactStore, write_json
from dig.engine.folding import fold
from dig.engine.stage import StageContext
from dig.interests.asking.answers import Verdict
from dig.interests.asking.question import Asker, Evidence, asker_of, item_evidence, load_prompt, questions_of
from dig.interests.asking.run import Job, answers_to
from dig.interests.asking.store import AnswerStore, store_path
from dig.stages.asking import ask_jobs, campaign_of, check_missing, open_store
from dig.stages.mine import load_captions
from dig.stages.prepare import load_catalogue

__all__ = ["judge_asker", "judge_labels", "judged_sample", "judging_job", "reads_of_judge"]


def judge_asker(config: Config) -> Asker:
    """The judge with its prompt."""
    name = str(config.labels.judge)
    prompt = load_prompt(config.labels.judge_prompt, "labels.judge_prompt")
    return asker_of(name, config.mining.models[name], prompt, "judge")


def reads_of_judge(config: Config) -> dict[str, Any]:
    """What of the judge decides the labels; verdicts that a retry has brought are a part of it."""
    asker = judge_asker(config)
    read: dict[str, Any] = {"judge": asker.origin, "mining.max_missing": config.mining.max_missing}
    if store_path(ArtifactStore().root.parent).is_file():
        with open_store() as store:
            if retried := store.retried(campaign_of(config, [asker])):
                read["judge_retried"] = retried
    return read


def judged_sample(interests: pl.DataFrame, size: int, seed: int) -> np.ndarray:
    """Rows of the interests that are judged, in order: all, or a random sample."""
    if len(interests) <= size:
        return np.arange(len(interests))
    return np.sort(np.random.default_rng(seed).choice(len(interests), size, replace=False))


def judging_job(context: StageContext, interests: pl.DataFrame) -> Job:
    """A question an interest, in order, about its text and captions alone."""
    asker = judge_asker(context.config)
    catalogue = load_catalogue(context)
    catalogue = catalogue.filter(pl.col("item_id").is_in(interests["item_id"].unique().implode()))
    evidence = {each.item_id: each for each in item_evidence(catalogue, load_captions(context), {})}
    pairs = list(zip(interests["item_id"].to_list(), map(fold, interests["text"]), strict=True))

    def items() -> Iterator[tuple[Evidence, str]]:
        return ((evidence[item_id], phrase) for item_id, phrase in pairs)

    return Job(asker, lambda: questions_of(asker, items()), len(pairs))


def judge_labels(context: StageContext, folder: Path, interests: pl.DataFrame) -> np.ndarray:
    """The judge's verdicts on a sample of the interests.

    Args:
        context: the stage's.
        folder: gets ``judge.json``, what came of asking.
        interests: all of them.

    Returns:
        int8 ``(interests,)``: 1, 0, or -1 where none was asked for or none came.

    Raises:
        UserError: too many verdicts are missing, or asking cannot go on.
    """
    config = context.config
    rows = judged_sample(interests, config.labels.judge_sample, config.seed)
    job = judging_job(context, interests[rows])
    with open_store() as store:
        outcomes = ask_jobs([job], store, config, campaign_of(config, [job.asker]))
        verdicts, missing = read_verdicts(job, store)
    check_missing("label", job.asker, missing, job.total, outcomes[0] if outcomes else None, config)
    labels = np.full(len(interests), -1, dtype=np.int8)
    labels[rows] = verdicts
    write_json(
        folder / "judge.json", {"asked": len(rows), "missing": missing.total(), "good": int((verdicts == 1).sum())}
    )
    return labels


def read_verdicts(job: Job, store: AnswerStore) -> tuple[np.ndarray, Counter[str]]:
    """int8 ``(questions,)``: 1, 0, -1 where there is no verdict; and why there is none."""
    missing: Counter[str] = Counter()
    questions = list(job.questions())
    rows: dict[bytes, list[int]] = defaultdict(list)  # interests of one wording about one item share a question
    for row, question in enumerate(questions):
        rows[question.key].append(row)
    verdicts = np.full(len(questions), -1, dtype=np.int8)
    for question, answer in answers_to(job.asker, questions, store, missing):
        assert isinstance(answer, Verdict)  # noqa: S101 - tells the type checker what was asked for
        verdicts[rows[question.key]] = answer.label
    return verdicts, missing
