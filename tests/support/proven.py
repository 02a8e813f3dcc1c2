"""A manifest for run folders that tests make or change by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from dig.engine.catalogue import Catalogue
from dig.engine.manifest import MANIFEST, FileEntry
from dig.engine.proof import write_proof

_UNPROVEN = ("report.html", ".lock", MANIFEST, "codes.svg")


def prove(run: Path) -> Path:
    """Writes the manifest of a run's files as they are now, as the report does at its end."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file() and path.relative_to(run).parts[0] != "logs")
    entries = {path.relative_to(run).as_posix(): FileEntry.of(path) for path in files if path.name not in _UNPROVEN}
    items = run / "items.parquet"
    write_proof(run, entries, Catalogue.of(pl.read_parquet(items)["item_id"] if items.is_file() else []))
    return run
