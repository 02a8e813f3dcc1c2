"""The tables in a run's folder, read for answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from dig.config import UserError

__all__ = ["read_run_table"]


def read_run_table(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A table of a run.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    try:
        return pl.read_parquet(path, columns=list(columns) if columns else None)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read: {reason}; the same dig.train command writes it again from what is "
                        "kept") from None  # fmt: skip
