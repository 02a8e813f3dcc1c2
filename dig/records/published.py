"""Numbers that others published, from a file that names source and split of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dig.config import UserError, nearest
from dig.records.markdown import heading, markdown_table, number

__all__ = ["PublishedNumbers"]

_METRICS = ("hr@5", "hr@10", "ndcg@5", "ndcg@10")
_KEYS = {"system", "metrics", "split", "source"}


class PublishedNumbers:
    """Numbers by data set.

    Args:
        path: YAML, a list of ``system``, ``metrics``, ``split``, ``source`` a data set.

    Raises:
        UserError: it cannot be read, or an entry misses one of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}: is no mapping of data sets to published numbers")
        self.content: dict[str, list[dict[str, Any]]] = content
        for data, entries in content.items():
            for entry in entries:
                missing = _KEYS - entry.keys()
                if missing:
                    raise UserError(f"{path}: {data}: {entry.get('system', entry)} has no {sorted(missing)[0]}")

    def published(self, data: str, metrics: Sequence[str] = _METRICS) -> str:
        """A table of what was published on a data set, in the order of the file.

        Raises:
            UserError: the file has nothing of the data set.
        """
        if data not in self.content:
            hint = nearest(data, self.content)
            raise UserError(f"{self.path}: nothing published on {data}{f'; did you mean {hint}?' if hint else ''}")
        rows = [
            [
                entry["system"],
                *(number(entry["metrics"].get(metric)) for metric in metrics),
                entry["split"],
                entry["source"],
            ]
            for entry in self.content[data]
        ]
        columns = ["published", *(heading(metric) for metric in metrics), "split", "source"]
        return markdown_table(columns, rows, (0, len(columns) - 2, len(columns) - 1))
