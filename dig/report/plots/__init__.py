"""Plots of the report as Vega-Lite specifications; Altair is imported when the first is built."""

from __future__ import annotations

from dig.report.plots.style import CONFIG, Legend, Plot

__all__ = ["CONFIG", "Legend", "Plot"]
