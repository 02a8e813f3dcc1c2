"""What a run shows of itself: the table on the screen and the self-contained ``report.html``."""

from __future__ import annotations

from dig.report.data import ReportData
from dig.report.html import render_report
from dig.report.table import metrics_markdown, metrics_table

__all__ = ["ReportData", "metrics_markdown", "metrics_table", "render_report"]
