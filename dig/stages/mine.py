"""mine: deep interests of every item (MLIM)."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datamodules.leakage import guard
from dig.config import Config, UserError
from dig.config.schema import MiningConfig, VisualConfig
from dig.embeddings.clip import load_clip
from dig.engine.artifacts import SCRATCH, ArtifactStore, hash_file, read_json, write_json
from dig.engine.console import say, warn
from dig.engine.folding import fold
from dig.engine.stage import Stage, StageContext, select
from dig.interests import (
    mine_lexical,
    read_captions,
    read_interests,
    read_user_interests,
    without_duplicates,
)
from dig.interests.asking.progress import JobResult
from dig.interests.asking.question import PromptedModel, load_prompt, prompted_model
from dig.interests.asking.run import AskingJob, read_captions_of, read_interests_of
from dig.interests.asking.store import AnswerStore, store_path
from dig.interests.grounding import Dropped
from dig.interests.interest import mined_frame
from dig.interests.visual import frequent_phrases, read_vocabulary, visual_interests
from dig.stages.asking import Pictures, ask_jobs, campaign_of, check_missing, item_job, open_store, pictures_for
from dig.stages.pictures import load_pictures, visual_model
from dig.stages.prepare import load_catalogue, load_sequences, picture_fingerprint

__all__ = [
    "STAGE",
    "load_captions",
    "named_captions",
    "Mining",
    "all_models",
    "asked_items",
    "mining_jobs",
    "reads_of_models",
]


def load_captions(context: StageContext) -> dict[str, str]:
    """Captions of the items' pictures, by item id."""
    captions: dict[str, str] = read_json(context.file("mine", "captions.json"))
    return captions


def _imports(config: MiningConfig) -> list[Path]:
    """The files of `mining.imports` that are there; the fallback stands in where one is not."""
    paths = [Path(path).expanduser() for path in config.imports]
    return [path for path in paths if path.is_file() or config.fallback is None]


def _miners(config: MiningConfig) -> list[str]:
    """The miners that run: the configured ones, or the fallback for imports that are missing."""
    if config.fallback is None or "imported" not in config.miners or len(_imports(config)) == len(config.imports):
        return config.miners
    miners = [miner for miner in config.miners if miner != "imported" or _imports(config)]
    return list(dict.fromkeys([*miners, config.fallback]))


def _files(config: MiningConfig) -> dict[str, str]:
    named = {"captions": config.captions, "user_interests": config.user_interests}
    files = {key: Path(path).expanduser() for key, path in named.items() if path}
    files |= {f"imports {index}": path for index, path in enumerate(_imports(config))}
    for key, path in files.items():
        if not path.is_file():
            raise UserError(f"mining.{key.split()[0]}: there is no file {path}")
    return {key: hash_file(path) for key, path in files.items()}


def _existing(key: str, name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{key}: there is no file {path}")
    return path


def _config_keys(config: Config) -> dict[str, Any]:
    keys = ("mining.max_interests", "mining.max_document_share")
    seen: dict[str, Any] = {}
    if "openclip" in config.mining.miners:
        names = ("vocabulary", "mined_phrases", "max_interests", "min_confidence")
        seen = select(config, *(f"visual.{name}" for name in names))
        if file := _vocabulary(config.visual):
            seen["visual.vocabulary"] = hash_file(_existing("visual.vocabulary", file))
    guarded = select(config, "data.leaks") if config.mining.user_interests else {}
    files = _files(config.mining)
    return select(config, *keys) | seen | {"miners": _miners(config.mining)} | guarded | reads_of_models(config) | files


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.mining
    catalogue = load_catalogue(context)
    captions = named_captions(config, set(catalogue["item_id"]))
    parts = _Parts(folder)
    with ExitStack() as stack:
        if all_models(context.config):  # first, since the captions of one model are evidence for all miners
            asked = asked_items(context, catalogue)
            mining = Mining(context, asked, captions, stack.enter_context(open_store()))
            parts.add(mining.frames(mining.ask()))
            record = {"items": len(asked), "of": len(catalogue), "dropped": mining.dropped}
            write_json(folder / "asked.json", record)
        parts.add([without_duplicates(pl.concat([mined_frame([]), *_without_models(catalogue, captions, config)]))])
        if "openclip" in config.miners:  # the last, since it also looks for what the others found
            parts.add([_seen(context, parts.whole(), folder)])
    if config.user_interests:
        _guarded(Path(config.user_interests).expanduser(), context).write_parquet(folder / "user_interests.parquet")
    parts.write(folder / "interests.parquet")
    write_json(folder / "captions.json", captions)


class _Parts:
    """Frames of interests on disk, so that a catalogue of millions is never in memory at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / SCRATCH / "parts"
        shutil.rmtree(self.folder, ignore_errors=True)  # of an interrupted build
        self.folder.mkdir(parents=True)
        self.count = 0

    def add(self, frames: Iterable[pl.DataFrame]) -> None:
        for frame in frames:
            frame.write_parquet(self.folder / f"{self.count:06d}.parquet")
            self.count += 1

    def whole(self) -> pl.DataFrame:
        return pl.read_parquet(self._files(), glob=False)

    def write(self, path: Path) -> None:
        pl.scan_parquet(self._files(), glob=False).sink_parquet(path)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))


def _without_models(catalogue: pl.DataFrame, captions: dict[str, str], config: MiningConfig) -> Iterable[pl.DataFrame]:
    """What the miners find that ask nobody."""
    item_ids = set(catalogue["item_id"])
    for path in sorted({Path(name).expanduser() for name in config.imports} - set(_imports(config))):
        warn(f"mining.imports: there is no file {path}; the miner {config.fallback} stands in (mining.fallback)")
    for miner in _miners(config):
        if miner == "lexical":
            yield mine_lexical(catalogue, captions, config)
        elif miner == "imported":
            yield from (_imported(path, item_ids, config.max_interests) for path in _imports(config))


def _seen(context: StageContext, mined: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """What open_clip sees in the pictures, among phrases of the vocabulary and of the other miners."""
    config = context.config.visual
    vectors, has_image = load_pictures(context)
    item_ids = load_catalogue(context)["item_id"].filter(pl.Series(has_image.numpy())).to_list()
    vocabulary = _vocabulary(config)
    given = [] if vocabulary is None else read_vocabulary(Path(vocabulary).expanduser() if vocabulary else None)
    phrases = {fold(phrase): phrase for phrase in [*given, *frequent_phrases(mined, config.mined_phrases)]}
    if not phrases:
        raise UserError(
            "mining.miners=[openclip] has no phrase to look for: name a visual.vocabulary, or another miner whose "
            "phrases join (visual.mined_phrases)"
        )
    clip = load_clip(visual_model(context))
    similarity = vectors[has_image] @ clip.encode_texts(list(phrases.values())).T
    visual = visual_interests(
        item_ids, similarity.numpy(), list(phrases.values()), mined, config.max_interests, config.min_confidence
    )
    write_json(folder / "visual.json", visual.report)
    if not visual.report["calibrated"]:
        warn(
            f"mine: only {visual.report['positives']} times an item's text says a phrase that is looked for in its "
            "picture; visual interests have no confidence"
        )
    return visual.interests


def _vocabulary(config: VisualConfig) -> str | None:
    """The file of phrases, "" for ours, None for none."""
    if config.vocabulary == "auto":
        return None if config.from_scratch else ""
    return None if config.vocabulary == "none" else config.vocabulary


def named_captions(config: MiningConfig, item_ids: set[str]) -> dict[str, str]:
    """The captions of ``mining.captions`` by item id; {} where none are named."""
    if config.captions is None:
        return {}
    captions = read_captions(Path(config.captions).expanduser(), item_ids)
    say(f"mine: {captions.log.summary()}")
    return dict(captions)


def _imported(path: Path, item_ids: set[str], limit: int) -> pl.DataFrame:
    imported = read_interests(path, item_ids)
    say(f"mine: {imported.log.summary()}")
    return _most_confident(imported.interests, limit)


def _guarded(path: Path, context: StageContext) -> pl.DataFrame:
    """Users' interests without those that saw a held-out item; they keep the list of what they saw."""
    sequences = load_sequences(context)
    imported = read_user_interests(path, sequences.user_ids.to_list())
    say(f"mine: {imported.log.summary()}")
    item_ids = load_catalogue(context)["item_id"]
    return imported.interests.filter(
        guard(path.name, imported.interests, sequences, item_ids, context.config.data.leaks)
    )


def _most_confident(interests: pl.DataFrame, limit: int) -> pl.DataFrame:
    """The first of each miner and item, in the file's order, which is the miner's ranking."""
    return interests.group_by("item_id", "miner", maintain_order=True).head(limit).select(interests.columns)


def _summary(path: Path) -> str:
    interests = pl.read_parquet(path / "interests.parquet", glob=False)
    miners = ", ".join(sorted(interests["miner"].unique())) or "none"
    line = f"{len(interests):,} interests of {interests['item_id'].n_unique():,} items (miners: {miners})"
    asked = read_json(path / "asked.json") if (path / "asked.json").is_file() else {}
    if asked and asked["items"] < asked["of"]:
        line += f"; models were asked about {asked['items']:,} of {asked['of']:,} items (mining.max_items)"
    if asked and (dropped := sum(sum(counts.values()) for counts in asked["dropped"].values())):
        line += f"; {dropped:,} that no item bears out, repeats and contradictions dropped"
    visual = path / "visual.json"
    if visual.is_file() and read_json(visual)["calibrated"]:
        report = read_json(visual)
        line += (
            f"; pictures: held-out ROC-AUC {report['roc_auc']:.3f}, calibration error {report['calibration_error']:.3f}"
        )
    of_users = path / "user_interests.parquet"
    if not of_users.is_file():
        return line
    users = pl.read_parquet(of_users, glob=False)["user_id"].n_unique()
    return f"{line}, texts of {users:,} users that saw no held-out item"


def _optional_inputs(config: Config) -> tuple[str, ...]:
    if "openclip" not in config.mining.miners:
        return ()
    return ("adapt", "pictures") if config.visual.adapt.epochs else ("pictures",)


STAGE = Stage("mine", ("prepare",), _config_keys, _build, _summary, version=3, optional_inputs=_optional_inputs)


def all_models(config: Config) -> list[PromptedModel]:
    """The models of `mine`: the one that describes pictures, then the miners."""
    mining = config.mining
    models = []
    if mining.captioner is not None:
        prompt = load_prompt(mining.caption_prompt, "mining.caption_prompt")
        models.append(prompted_model(mining.captioner, mining.models[mining.captioner], prompt, "caption"))
    for name in mining.asked:
        own = mining.models[name].interests_prompt
        key = "mining.interests_prompt" if own is None else f"mining.models.{name}.interests_prompt"
        prompt = load_prompt(own or mining.interests_prompt, key)
        models.append(prompted_model(name, mining.models[name], prompt, "interests", mining.max_interests))
    return models


def asked_items(context: StageContext, catalogue: pl.DataFrame) -> pl.DataFrame:
    """The items that models are asked about: all, or ``mining.max_items`` of them, in the catalogue's order.

    Those are the ones that the training part holds most often, and among equals the first of the catalogue.
    """
    most = context.config.mining.max_items
    if most is None or most >= len(catalogue):
        return catalogue
    bought = np.bincount(load_sequences(context).train.flat(), minlength=len(catalogue))
    return catalogue[np.sort(np.argsort(-bought, kind="stable")[:most])]


def reads_of_models(config: Config) -> dict[str, Any]:
    """What of the models decides the stage's result; answers that a retry has brought are a part of it."""
    models = all_models(config)
    if not models:
        return {}
    read: dict[str, Any] = {
        "asked": [[model.name, model.purpose, model.origin] for model in models],
        "mining.max_missing": config.mining.max_missing,
        "mining.grounded": config.mining.grounded,
    }
    if config.mining.max_items is not None:
        read["mining.max_items"] = config.mining.max_items
    if any(model.config.vision for model in models):
        read["pictures"] = picture_fingerprint(config)
    if store_path(ArtifactStore().root.parent).is_file():
        with open_store() as store:
            if retried := store.retried(campaign_of(config, models)):
                read["retried"] = retried
    return read


def mining_jobs(
    config: Config, catalogue: pl.DataFrame, captions: dict[str, str], pictures: Pictures
) -> tuple[AskingJob | None, list[AskingJob]]:
    """What is asked: for captions of the pictures that have none, and for interests.

    Args:
        config: the experiment.
        catalogue: the items.
        captions: item id → caption; the miners' questions hold what is in it when they are made.
        pictures: item id → file and hash.
    """
    first, others = None, []
    for model in all_models(config):
        if model.purpose == "caption":
            bare = catalogue.filter(pl.col("item_id").is_in(list(pictures.keys() - captions.keys())))
            first = item_job(model, bare, {}, pictures)
        else:
            others.append(item_job(model, catalogue, captions, pictures))
    return first, others


@dataclass
class Mining:
    """Asks the models of an experiment and reads what they said.

    Attributes:
        context: the stage's.
        catalogue: the items.
        captions: item id → caption; those of the captioner join.
        store: the answers.
        again: ask again what failed for good.
        results: of what was asked, by the model's name and purpose.
        dropped: interests that were dropped, by the model's name and the reason.
    """

    context: StageContext
    catalogue: pl.DataFrame
    captions: dict[str, str]
    store: AnswerStore
    again: bool = False
    results: dict[tuple[str, str], JobResult] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    def ask(self) -> list[AskingJob]:
        """Asks all of them; returns the miners' jobs.

        Raises:
            UserError: too many pictures are left without a caption, or asking cannot continue.
        """
        config = self.context.config
        models = all_models(config)
        pictures: Pictures = {}
        if any(model.config.vision for model in models):
            pictures = pictures_for(self.context, self.catalogue)
            if not pictures:
                self._without_pictures()
        first, _ = mining_jobs(config, self.catalogue, self.captions, pictures)
        if first is not None and first.total:
            self._ask([first])
            missing: Counter[str] = Counter()
            self.captions |= read_captions_of(first.model, first.questions(), self.store, missing)
            self._check(first, missing)
        _, jobs = mining_jobs(config, self.catalogue, self.captions, pictures)
        self._ask(jobs)
        return jobs

    def frames(self, jobs: list[AskingJob]) -> Iterator[pl.DataFrame]:
        """The interests that the miners gave, some thousand items a frame.

        Raises:
            UserError: a miner has left too much unanswered.
        """
        for job in jobs:
            missing: Counter[str] = Counter()
            dropped = Dropped(self.context.config.mining.grounded)
            yield from read_interests_of(job.model, job.questions(), self.store, missing, dropped)
            if dropped.counts:
                say(f"mine: {job.model.name}: {dropped.summary()}")
                self.dropped[job.model.name] = dict(dropped.counts)
            self._check(job, missing)

    @property
    def campaign(self) -> str:
        """What spending and limits are counted by."""
        return campaign_of(self.context.config, all_models(self.context.config))

    def _ask(self, jobs: list[AskingJob]) -> None:
        if jobs:
            results = ask_jobs(jobs, self.store, self.context.config, self.campaign, self.again)
            for job, result in zip(jobs, results, strict=False):  # none where nothing was left to ask
                self.results[result.name, job.model.purpose] = result

    def _check(self, job: AskingJob, missing: Counter[str]) -> None:
        result = self.results.get((job.model.name, job.model.purpose))
        check_missing("mine", job.model, missing, job.total, result, self.context.config)

    def _without_pictures(self) -> None:
        mining = self.context.config.mining
        if mining.captioner is not None:
            raise UserError(
                f"mining.captioner={mining.captioner} is to describe pictures, but no picture that an item "
                "names (column `image`) is there; see visual.folder and data.pictures.fetch"
            )
        warn("mine: models with vision are asked, but the items have no pictures; they read only the text")
