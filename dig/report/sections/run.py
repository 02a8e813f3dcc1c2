"""What was run: the command, the configuration against its parent, the data and the stages."""

from __future__ import annotations

from typing import Any

from dig.report.data import ReportData

__all__ = ["what_was_run"]


def what_was_run(data: ReportData) -> dict[str, Any]:
    """The stages with what they took in all; the rest is shown as it is given."""
    seconds = [stage.get("seconds") for stage in data.stages if not stage.get("cached")]
    return {"spent": sum(each for each in seconds if isinstance(each, (int, float))), "built": len(seconds)}
