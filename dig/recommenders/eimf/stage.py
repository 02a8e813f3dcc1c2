"""eimf: several interests per customer from behaviour, taught by the interests that miners found, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datamodules.leakage import guard_artifact
from datamodules.splits import Sequences
from dig.config import Config, UserError
from dig.embeddings import encoder_fingerprint
from dig.embeddings.cache import content_keys
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext, select
from dig.engine.training import reads_training
from dig.interests.profiles import ExplicitInterests
from dig.recommenders import eimf
from dig.recommenders.training import train_on_items
from dig.stages.encoding import encode_texts
from dig.stages.label import load_interests
from dig.stages.policies import policy_summary
from dig.stages.prepare import load_catalogue, load_sequences, load_stamp

__all__ = ["STAGE"]

_EXPLICIT_KEYS = ("temperature", "warmup_epochs", "clusters", "typical_users", "typical_batch", "explicit_interests")
_ENCODING_KEYS = ("embedding.max_tokens", "embedding.instruction")


def _config_keys(config: Config) -> dict[str, Any]:
    """Without the explicit module nothing of it counts."""
    seen = reads_training(config, "eimf", "evaluation.ks", "evaluation.valid_users")
    if eimf.SPEC.of(config).explicit_losses:
        return seen | select(config, *_ENCODING_KEYS) | {"encoder": encoder_fingerprint(config.embedding.text_encoder)}
    seen["eimf"] = {key: value for key, value in seen["eimf"].items() if key not in _EXPLICIT_KEYS}
    return seen


def _build(context: StageContext, folder: Path) -> None:
    config, sequences = context.config, load_sequences(context)
    settings, item_ids = eimf.SPEC.of(config), load_catalogue(context)["item_id"]
    typical = _known_users(context, folder, sequences, item_ids) if settings.explicit_losses else None
    lightning.seed_everything(config.seed, verbose=False)
    model = eimf.EIMF(len(item_ids), settings)
    module = eimf.EIMFModule(model, settings, config.evaluation, typical, config.seed)
    if train_on_items("eimf", settings, _config_keys(config), module, context, folder):
        model.save(folder / "model", load_stamp(context))
        if typical is not None:
            _write_typical(folder / "typical_users.parquet", module, typical.explicit, sequences)


def _known_users(context: StageContext, folder: Path, sequences: Sequences, item_ids: pl.Series) -> eimf.KnownUsers:
    """Users with interests in words, which saw the training part alone; refused where nobody could be typical."""
    config = eimf.SPEC.of(context.config)
    guard_artifact("eimf: its explicit interests", context.inputs["label"].path, sequences, item_ids)
    histories = sequences.train.latest(config.max_history)
    explicit = ExplicitInterests(load_interests(context), item_ids.to_list(), histories, config.explicit_interests)
    users = explicit.users()
    if not len(users):
        raise UserError(
            "eimf: there are no typical users, since no user has an item with a positive interest in the training part "
            "(stages mine and label); eimf.semantic_weight=0 and eimf.alignment_weight=0 train without interests"
        )
    if config.clusters > len(users):
        raise UserError(
            f"eimf.clusters={config.clusters} is more than the {len(users):,} users with a positive interest, so that "
            "there would be clusters without typical users; lower it",
            exit_code=2,
        )
    vectors = encode_texts(context, folder, "eimf", explicit.phrases).gather(content_keys(explicit.phrases))
    return eimf.KnownUsers(explicit, vectors, users)


def _write_typical(path: Path, module: eimf.EIMFModule, explicit: ExplicitInterests, sequences: Sequences) -> None:
    """Who taught, and what they are after; with early stopping in the warm-up nobody."""
    users = module.typical[module.typical >= 0].cpu().numpy()
    texts = explicit.texts(users)
    words = [[explicit.phrases[row] for row in rows if row >= 0] for rows in texts.phrases]
    shares = [row[: len(phrases)].tolist() for row, phrases in zip(texts.shares, words, strict=True)]
    schema = {"user_id": pl.String, "interests": pl.List(pl.String), "shares": pl.List(pl.Float32)}
    ids = sequences.user_ids.gather(users.astype(np.uint32))
    pl.DataFrame({"user_id": ids, "interests": words, "shares": shares}, schema=schema).write_parquet(path)


STAGE = Stage(
    eimf.SPEC.name,
    eimf.SPEC.needs,
    _config_keys,
    _build,
    policy_summary,
    every_rank=True,
    optional_inputs=lambda config: ("label",) if eimf.SPEC.of(config).explicit_losses else (),
    enabled=lambda config: "eimf" in config.baselines,
)
