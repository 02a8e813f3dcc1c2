"""The quickstart with a real language model, cut short: trained, resumed after a kill, exported, asked."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from support.plain_export import plain_packages, read_plainly
from support.workplace import Workplace, home_with_vectors, wait_for_checkpoint

from dig import Recommender
from dig.quantization import SemanticIds

SETTINGS = (
    "experiment=quickstart_llm",
    "data.shop.items=80",
    "data.shop.users=150",
    "mining.miners=[lexical]",
    "rqvae.codebook_size=8",
    "rqvae.epochs=15",
    "sft.max_steps=4",
    "sft.batch_size=2",
    "grpo.max_steps=2",
    "grpo.prompts_per_step=2",
    "grpo.group_size=4",
    "grpo.validate_every=2",
    "evaluation.valid_users=4",
    "evaluation.max_users=4",
    "evaluation.num_beams=10",
    "evaluation.valid_beams=10",
    "trainer.checkpoint_every=1",
    "trainer.checkpoint_share=1.0",
    "logging.progress=false",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Workplace, str]:
    """A run whose SFT was killed."""
    folder = tmp_path_factory.mktemp("llm")
    workplace = Workplace(folder, home_with_vectors(folder / "home"), settings=SETTINGS)
    process = workplace.start()
    assert wait_for_checkpoint(workplace, "sft", process, newer_than=-1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    sizes = [path.stat().st_size for path in workplace.home.glob("artifacts/sft/*.work/scratch/resume*.ckpt")]
    assert sizes and max(sizes) < 80e6  # adapters, rows and their moments; the model alone has 540 MB
    output = workplace.run()
    return folder / "runs" / "quickstart_llm" / "latest", workplace, output


def test_it_resumes_and_is_measured(finished: tuple[Path, Workplace, str]) -> None:
    run, workplace, output = finished
    assert "sft: resumes from the checkpoint" in output and "Warning" not in output
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"sft", "grpo"} <= metrics.keys() and metrics["grpo"]["users"] == 4
    artifact = next(path for path in workplace.home.glob("artifacts/grpo/*") if path.is_dir())
    divergence = pl.read_csv(sorted((artifact / "logs").glob("*/metrics.csv"))[-1])["train/kl"].drop_nulls()
    assert divergence[0] == pytest.approx(0.0, abs=1e-5)  # with its adapters off the policy is that of SFT


def test_the_adapters_moved_what_they_stand_on(finished: tuple[Path, Workplace, str]) -> None:
    run, _, _ = finished
    models = [load_file(run / "checkpoints" / stage / "model.safetensors") for stage in ("sft", "grpo")]
    moved = [name for name, weight in models[0].items() if not torch.equal(weight, models[1][name])]
    assert len(moved) == 7 * 30 and not any("embed" in name or "norm" in name for name in moved)


def test_plain_transformers_recommends_what_the_run_does(finished: tuple[Path, Workplace, str], tmp_path: Path) -> None:
    """In an environment without dig: its own tokenizer, chat template and generation config come along."""
    run, _, _ = finished
    recommender = Recommender.from_run(run)
    history = SemanticIds.load(run / "model" / "semantic_ids.parquet").item_ids[:5]
    items, scores = recommender.recommend([history], k=10, unseen=False)
    plain = read_plainly(run / "model", plain_packages(tmp_path / "packages"), history, "<|im_start|>{}", chat=False)
    assert plain["found"] == plain["broken"] == [] and plain["joined"]
    assert "<|im_start|>" in plain["chat"] and plain["eos"] and plain["length"] == 8192
    assert plain["items"] == items[0]
    torch.testing.assert_close(torch.tensor(plain["scores"]), scores[0], atol=2e-3, rtol=1e-3)
