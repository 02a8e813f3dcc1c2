"""What ``docs/results.md`` is made of: small records of runs and benchmarks, and the page that shows them."""

from __future__ import annotations

from dig.records.benchmarks import BenchmarkStore
from dig.records.page import check_page, render_page
from dig.records.record import RunRecord, package_versions, read_run
from dig.records.store import RunStore

__all__ = ["BenchmarkStore", "RunRecord", "RunStore", "check_page", "package_versions", "read_run", "render_page"]
