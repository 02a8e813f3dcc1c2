"""W&B artifacts: what stages leave that others are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig.engine.artifacts import hash_file, link_or_copy
from dig.engine.own_files import temporary_beside
from dig.tracking.identity import safe_name

if TYPE_CHECKING:
    from wandb import Artifact
    from wandb.sdk.wandb_run import Run

__all__ = ["Result", "declare", "results_of_run", "result_of_stage"]

_STAGES = {"label": ("interests", "interests.parquet"), "tokenize": ("semantic-ids", "semantic_ids.parquet")}
_RUN = (
    "metrics.json",
    "recommendations.parquet",
    "recommendations_masked.parquet",
    "recommendations_unmasked.parquet",
    "config.yaml",
    "versions.json",
    "report.html",
)


@dataclass(frozen=True)
class Result:
    """Files that become a W&B artifact.

    Attributes:
        kind: the artifact's type.
        name: of the artifact, whose versions differ by content.
        files: by their name in the artifact.
        metadata: shown beside it.
    """

    kind: str
    name: str
    files: Mapping[str, Path]
    metadata: Mapping[str, Any]


def result_of_stage(experiment: str, stage: str, folder: Path, log_model: bool) -> Result | None:
    """What a finished stage leaves for W&B; None for most stages."""
    metadata = {"experiment": experiment, "stage": stage, "fingerprint": folder.name}
    if stage in _STAGES:
        kind, name = _STAGES[stage]
        return Result(kind, safe_name(f"{experiment}-{kind}"), {name: folder / name}, metadata)
    model = folder / "model"
    if not (log_model and model.is_dir() and (folder / "training.json").is_file()):
        return None
    files = {path.relative_to(model).as_posix(): path for path in sorted(model.rglob("*")) if path.is_file()}
    return Result("model", safe_name(f"{experiment}-{stage}"), files, metadata) if files else None


def results_of_run(experiment: str, run: Path) -> Result:
    """Metrics and recommendations of a run, and the page that shows them."""
    files = {name: run / name for name in _RUN if (run / name).is_file()}
    return Result("results", safe_name(f"{experiment}-results"), files, {"experiment": experiment, "run": run.name})


def declare(run: Run, result: Result, folder: Path, used: bool) -> None:
    """Says that a W&B run made a result, or was made from it.

    Args:
        run: the W&B run.
        result: the files.
        folder: of the experiment's run; the files are linked under its `wandb` folder, where they stay as they are
            until they are sent, whatever becomes of the cache and of later runs.
        used: whether the run read it. W&B finds a version of the same content again and makes no second one, so a
            result that was made elsewhere, or earlier, can be used without asking for it by name.
    """
    artifact = _artifact(result, folder)
    if not used:
        run.log_artifact(artifact, aliases=["latest", *_aliases(result)])
        return
    # `use_artifact` refuses to work offline and waits for the server online. This is what it does with an artifact
    # that is not sent yet, less the waiting; the use is in the records and is entered when they are synced.
    run._log_artifact(artifact, aliases=_aliases(result), is_user_created=True, use_after_commit=True)


def _artifact(result: Result, folder: Path) -> Artifact:
    import wandb

    artifact = wandb.Artifact(result.name, type=result.kind, metadata=dict(result.metadata))
    for name, path in result.files.items():
        artifact.add_file(str(_kept(path, folder)), name=name, policy="immutable", skip_cache=True)
    return artifact


def _aliases(result: Result) -> list[str]:
    return [str(result.metadata[key]) for key in ("fingerprint", "run") if key in result.metadata]


def _kept(path: Path, folder: Path) -> Path:
    """The file under a name made of its content, linked where the file system allows it, else copied."""
    kept = folder / "wandb" / "data" / "files" / f"{hash_file(path)[:32]}{path.suffix}"
    if not kept.is_file():
        temporary = temporary_beside(kept)
        link_or_copy(path, temporary)
        temporary.replace(kept)
    return kept
