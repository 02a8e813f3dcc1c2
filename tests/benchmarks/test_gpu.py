"""The script for a GPU: every part runs here with small sizes, so that a lent device is not spent on slips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> tuple[int, dict]:
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", *arguments],
        env=settings,
        stdout=subprocess.PIPE,
        text=True,
        timeout=500,
    )
    return result.returncode, json.loads(result.stdout.splitlines()[-1])


def test_every_part_runs_with_small_sizes_and_the_last_line_tells_all():
    status, figures = run("--tiny", CUDA_VISIBLE_DEVICES="")
    assert (status, figures["failed"]) == (0, [])
    assert figures["path_model"] == "DecoderPathModel"
    assert figures["fsdp2_loss_off"] < 1e-4
    for name in ("beams_batch_1_ms", "beams_batch_8_ms", "sft_step_ms", "grpo_steps_per_second"):
        assert figures[name] > 0
    assert figures["beams_batch_8_goal_ms"] == [199.0, 93.0]
    worst = {
        dtype: max(value for key, value in figures.items() if key.startswith(dtype)) for dtype in ("float32", "bf")
    }
    assert worst["float32"] < 1e-4 < worst["bf"] < 0.15  # the comparison sees what a number format rounds


def test_without_a_gpu_it_says_so_and_measures_nothing():
    status, figures = run(CUDA_VISIBLE_DEVICES="")
    assert status == 0
    assert list(figures) == ["skipped"]
    assert "--tiny" in figures["skipped"]
