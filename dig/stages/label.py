"""label: miners' lists made one, a quality label for every interest (RLDI), and the quality q of every item."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datamodules.leakage import write_items_seen
from dig.config import Config, UserError
from dig.config.schema import EmbeddingConfig
from dig.embeddings import compose_texts, encoder_fingerprint
from dig.embeddings.cache import content_keys
from dig.engine.artifacts import ArtifactStore, hash_file, read_json, write_json
from dig.engine.console import say
from dig.engine.folding import fold
from dig.engine.stage import Stage, StageContext, global_rank, select
from dig.interests import (
    INTEREST_SCHEMA,
    InterestVectors,
    distinct_phrases,
    item_quality,
    label_interests,
    merge_interests,
    read_labels,
)
from dig.interests.asking.answers import Verdict
from dig.interests.asking.question import (
    Evidence,
    PromptedModel,
    item_evidence,
    load_prompt,
    prompted_model,
    questions_of,
)
from dig.interests.asking.run import AskingJob, answers_to
from dig.interests.asking.store import AnswerStore, store_path
from dig.stages.asking import ask_jobs, campaign_of, check_missing, open_store
from dig.stages.encoding import encode_texts
from dig.stages.mine import load_captions
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = [
    "STAGE",
    "load_interests",
    "load_quality",
    "judge_model",
    "judge_labels",
    "judged_sample",
    "judging_job",
    "reads_of_judge",
]


_TOLD = 3  # features in the stage's line


def load_interests(context: StageContext) -> pl.DataFrame:
    """Interests with their labels."""
    return pl.read_parquet(context.file("label", "interests.parquet"), glob=False)


def load_quality(context: StageContext) -> np.ndarray:
    """(items,) float32 q."""
    return pl.read_parquet(context.file("label", "quality.parquet"), glob=False)["quality"].to_numpy()


def _config_keys(config: Config) -> dict[str, Any]:
    encoding = ("embedding.max_tokens", "embedding.instruction")
    seen = select(config, "labels", "seed", "mining.merge_similarity", "mining.max_per_item", *encoding)
    seen["encoder"] = encoder_fingerprint(config.embedding.text_encoder)
    if not config.labels.enabled:
        return seen
    if config.labels.source == "file":
        seen["labels.file"] = hash_file(_file(config))
    if config.labels.source == "judge":
        from dig.stages.label import reads_of_judge  # the others do without what asks models

        seen |= reads_of_judge(config)
    return seen


def _file(config: Config) -> Path:
    path = Path(config.labels.file or "").expanduser()
    if not path.is_file():
        raise UserError(f"labels.file: there is no file {path}")
    return path


def _build(context: StageContext, folder: Path) -> None:
    mined = pl.read_parquet(context.file("mine", "interests.parquet"), glob=False)
    vectors = _encode(context, folder, mined)
    if global_rank():
        return
    config, catalogue, sequences = context.config, load_catalogue(context), load_sequences(context)
    interests, merged = mined, None
    if vectors is not None and mined["miner"].n_unique() > 1:
        mining = config.mining
        merge = merge_interests(
            mined, vectors.phrases, vectors.of_phrases, mining.merge_similarity, mining.max_per_item
        )
        interests, merged = merge.interests, {"mined": mined.height, "joined": merge.joined, "cut": merge.cut}
    labelled, report = label_interests(
        interests,
        catalogue,
        load_captions(context),
        sequences.train,
        config.labels,
        config.seed,
        vectors,
        _verdicts(context, folder, interests),
    )
    write_items_seen(folder, sequences, sequences.train, catalogue["item_id"])
    labelled.write_parquet(folder / "interests.parquet")
    quality = item_quality(labelled, catalogue["item_id"].to_list())
    pl.DataFrame({"item_id": catalogue["item_id"], "quality": quality}).write_parquet(folder / "quality.parquet")
    write_json(folder / "report.json", report | ({"merged": merged} if merged else {}))


def _encode(context: StageContext, folder: Path, mined: pl.DataFrame) -> InterestVectors | None:
    """Vectors of the phrases and of the items' own texts, on all ranks; None where nothing asks for any."""
    several = mined["miner"].n_unique() > 1
    if mined.is_empty() or not (several or context.config.labels.enabled):
        return None
    phrases, texts = distinct_phrases(mined), _own_texts(context)
    cache = encode_texts(context, folder, "label", [*phrases, *texts])
    if global_rank():
        return None
    vectors = cache.gather(content_keys([*phrases, *texts])).numpy()
    return InterestVectors(phrases, vectors[: len(phrases)], vectors[len(phrases) :])


def _own_texts(context: StageContext) -> list[str]:
    """The items' own fields as texts, without interests; all blank where interests are all that is known of any.

    All fields, whichever ``embedding.fields`` are: an ablation of what is embedded leaves the labels as they are.
    """
    catalogue, captions = load_catalogue(context), load_captions(context)
    everything = replace(context.config.embedding, interests="none", fields=EmbeddingConfig().fields)
    try:
        return compose_texts(catalogue, captions, pl.DataFrame(schema=INTEREST_SCHEMA), everything)
    except UserError:  # not one item has any text
        return [""] * len(catalogue)


def _verdicts(context: StageContext, folder: Path, interests: pl.DataFrame) -> np.ndarray | None:
    """(interests,) int8 labels of the judge or of the file, -1 where there is none; None where behaviour teaches."""
    config = context.config.labels
    if not config.enabled or config.source == "behaviour" or interests.is_empty():
        return None
    if config.source == "file":
        labels = read_labels(_file(context.config), interests)
        say(f"label: {labels.log.summary()}")
        return labels.verdicts
    from dig.stages.label import judge_labels

    verdicts: np.ndarray = judge_labels(context, folder, interests)
    return verdicts


def _summary(path: Path) -> str:
    report = read_json(path / "report.json")
    interests = pl.read_parquet(path / "interests.parquet", glob=False)
    positive = (interests["label"] == 1).mean() if len(interests) else 0.0
    quality = pl.read_parquet(path / "quality.parquet", glob=False)["quality"].mean()
    merged = report.get("merged")
    joined = f"{merged['joined']:,} of {merged['mined']:,} said the same as another; " if merged else ""
    joined += f"{merged['cut']:,} beyond mining.max_per_item; " if merged and merged["cut"] else ""
    line = f"{joined}{positive:.0%} of the interests are positive, mean q {quality:.2f}; {_held_out(report)}"
    features = ", ".join(f"{each['meaning']} ({each['weight']:+.2f})" for each in report.get("features", ())[:_TOLD])
    return f"{line}; most telling: {features}" if features else line


def _held_out(report: dict[str, Any]) -> str:
    scores = report.get("held_out")
    if not scores:
        return f"classifier {report.get('classifier', 'off')}"
    return (
        f"held-out ROC-AUC {scores['roc_auc']:.3f} (rarity alone {scores['roc_auc_rarity']:.3f}), calibration error "
        f"{scores['calibration_error']:.3f}, precision {scores['precision']:.3f} at base rate {scores['base_rate']:.3f}"
    )


STAGE = Stage("label", ("prepare", "mine"), _config_keys, _build, _summary, version=3, every_rank=True)


def judge_model(config: Config) -> PromptedModel:
    """The judge with its prompt."""
    name = str(config.labels.judge)
    prompt = load_prompt(config.labels.judge_prompt, "labels.judge_prompt")
    return prompted_model(name, config.mining.models[name], prompt, "judge")


def reads_of_judge(config: Config) -> dict[str, Any]:
    """What of the judge decides the labels; verdicts that a retry has brought are a part of it."""
    model = judge_model(config)
    read: dict[str, Any] = {"judge": model.origin, "mining.max_missing": config.mining.max_missing}
    if store_path(ArtifactStore().root.parent).is_file():
        with open_store() as store:
            if retried := store.retried(campaign_of(config, [model])):
                read["judge_retried"] = retried
    return read


def judged_sample(interests: pl.DataFrame, size: int, seed: int) -> np.ndarray:
    """Rows of the interests that are judged, in order: all, or a random sample."""
    if len(interests) <= size:
        return np.arange(len(interests))
    return np.sort(np.random.default_rng(seed).choice(len(interests), size, replace=False))


def judging_job(context: StageContext, interests: pl.DataFrame) -> AskingJob:
    """A question per interest, in order, about its text and captions alone."""
    model = judge_model(context.config)
    catalogue = load_catalogue(context)
    catalogue = catalogue.filter(pl.col("item_id").is_in(interests["item_id"].unique().implode()))
    evidence = {each.item_id: each for each in item_evidence(catalogue, load_captions(context), {})}
    pairs = list(zip(interests["item_id"].to_list(), map(fold, interests["text"]), strict=True))

    def items() -> Iterator[tuple[Evidence, str]]:
        return ((evidence[item_id], phrase) for item_id, phrase in pairs)

    return AskingJob(model, lambda: questions_of(model, items()), len(pairs))


def judge_labels(context: StageContext, folder: Path, interests: pl.DataFrame) -> np.ndarray:
    """The judge's verdicts on a sample of the interests.

    Args:
        context: the stage's.
        folder: gets ``judge.json``, what came of asking.
        interests: all of them.

    Returns:
        int8 ``(interests,)``: 1, 0, or -1 where none was asked for or none came.

    Raises:
        UserError: too many verdicts are missing, or asking cannot continue.
    """
    config = context.config
    rows = judged_sample(interests, config.labels.judge_sample, config.seed)
    job = judging_job(context, interests[rows])
    with open_store() as store:
        results = ask_jobs([job], store, config, campaign_of(config, [job.model]))
        verdicts, missing = read_verdicts(job, store)
    check_missing("label", job.model, missing, job.total, results[0] if results else None, config)
    labels = np.full(len(interests), -1, dtype=np.int8)
    labels[rows] = verdicts
    write_json(
        folder / "judge.json", {"asked": len(rows), "missing": missing.total(), "good": int((verdicts == 1).sum())}
    )
    return labels


def read_verdicts(job: AskingJob, store: AnswerStore) -> tuple[np.ndarray, Counter[str]]:
    """int8 ``(questions,)``: 1, 0, -1 where there is no verdict; and why there is none."""
    missing: Counter[str] = Counter()
    questions = list(job.questions())
    rows: dict[bytes, list[int]] = defaultdict(list)  # interests of one wording about one item share a question
    for row, question in enumerate(questions):
        rows[question.key].append(row)
    verdicts = np.full(len(questions), -1, dtype=np.int8)
    for question, answer in answers_to(job.model, questions, store, missing):
        assert isinstance(answer, Verdict)  # noqa: S101 - tells the type checker what was asked for
        verdicts[rows[question.key]] = answer.label
    return verdicts, missing
