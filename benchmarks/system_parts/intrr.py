"""IntRR: SFT with one vector an item (``items.representation=one``) beside SFT with items spelled by three codes, of
equal width and depth, on Beauty (``DIG_DATA_ROOT``) with random Semantic IDs of 3 × 256. Training runs under
Lightning as the stage runs it, in processes of their own that take turns; memory is what a process needs for model,
optimiser and steps beyond what it had with the data loaded, in a run of its own whose allocator gives back at once
what is freed. Inference ranks Beauty's test histories by beam search over the same trie."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.mixture import TaskMixture, TaskPart, TokenArrays, write_token_arrays
from datamodules.preparation import prepare
from datamodules.prompts import ItemPrompts, PromptBuilder, SidPrompts
from datamodules.sequences import training_windows
from datamodules.sources import read_source
from datamodules.splits import Sequences
from datamodules.tasks import ItemTexts, TaskSource
from dig.config import load_config
from dig.config.schema import BackboneConfig, EvaluationConfig, PromptConfig, SFTConfig
from dig.config.sections.backbone import AssignmentConfig
from dig.engine.console import console
from dig.engine.training import quiet
from dig.generation import CatalogueTrie, beam_search
from dig.generation.backbone import Backbone, IntRRBackbone, build_backbone
from dig.generation.intrr import IntRR, IntRRSizes
from dig.modules.sft import SFTModule

CODES, LEVELS, HISTORY = [256, 256, 256], 3, 20
SHAPE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4}
BATCH, WARM, STEPS, TURNS = 512, 3, 15, 3
BEAMS, LIMITS, USERS, ROUNDS = (10, 20, 50), ("1.3", "1.8", "2.9"), 256, 5
FRUGAL = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
"""What tells glibc to give memory back, so that its peak is that of what is in use, as a GPU's figures are."""
WAYS = ("one", "codes")
"""One vector an item (IntRR), or three codes an item."""

Part = tuple[list[tuple[str, str, str]], dict[str, Any]]


def intrr() -> Part:
    """IntRR beside flattened codes: training, memory, inference."""
    console.quiet = True
    turns: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(TURNS):
        for way, seen in turns.items():
            seen.append(
                {"targets": _in_a_process(way, {})["targets"], "peak_mb": _in_a_process(way, FRUGAL)["peak_mb"]}
            )
    rows = {way: {key: statistics.median(turn[key] for turn in seen) for key in seen[0]} for way, seen in turns.items()}
    speeds = _inference()
    one, codes = rows["one"], rows["codes"]
    told = [
        (
            f"training of {SHAPE['hidden_size']} × {SHAPE['num_hidden_layers']}, {BATCH} histories a step: "
            f"{one['targets']:,.0f} targets/s against {codes['targets']:,.0f}",
            f"{one['targets'] / codes['targets']:.2f} times",
            "1.75",
        ),
        (
            f"memory at most: {one['peak_mb']:,.0f} MB against {codes['peak_mb']:,.0f}",
            f"{one['peak_mb'] / codes['peak_mb']:.2f}",
            "0.33",
        ),
    ]
    for beams, limit in zip(BEAMS, LIMITS, strict=True):
        ours, theirs = speeds["one"][beams], speeds["codes"][beams]
        told.append((f"{beams} beams: {ours:,.0f} users/s against {theirs:,.0f}", f"{ours / theirs:.2f} times", limit))
    keys = ("intrr_beam10_ratio", "intrr_beam20_ratio", "intrr_beam50_ratio")
    ratios = {
        key: round(speeds["one"][beams] / speeds["codes"][beams], 2) for key, beams in zip(keys, BEAMS, strict=True)
    }
    return told, {
        "intrr_training_ratio": round(rows["one"]["targets"] / rows["codes"]["targets"], 2),
        "intrr_memory_fraction": round(rows["one"]["peak_mb"] / rows["codes"]["peak_mb"], 3),
        **ratios,
    }


def _in_a_process(way: str, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, way]
    output = subprocess.run(  # noqa: S603
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | environment,
    ).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def _beauty() -> tuple[Sequences, torch.Tensor]:
    """The sequences, and random codes for their items."""
    config = load_config("beauty").data
    sequences = prepare(read_source(config), config).sequences
    generator = torch.Generator().manual_seed(0)
    return sequences, torch.randint(0, CODES[0], (int(sequences.items.max()) + 1, LEVELS), generator=generator)


def _policy(way: str, codes: torch.Tensor) -> tuple[Backbone, PromptBuilder]:
    torch.manual_seed(0)
    prompt = PromptConfig(max_history=HISTORY)
    if way == "codes":
        backbone = build_backbone(BackboneConfig(config=SHAPE), CODES, (HISTORY + 1) * LEVELS + 1)
        tokens = backbone.vocabulary.encode(codes)
        return backbone, SidPrompts(tokens, backbone.tokenizer, prompt, from_scratch=True)
    sizes = IntRRSizes.of(
        CODES,
        AssignmentConfig(),
        hidden_size=SHAPE["hidden_size"],
        layers=SHAPE["num_hidden_layers"],
        heads=SHAPE["num_attention_heads"],
        inner_size=SHAPE["intermediate_size"],
        max_history=HISTORY,
    )
    return IntRRBackbone(IntRR(codes, sizes), alignment=1.0), ItemPrompts(len(codes), prompt)


class _Clock(Callback):
    """Targets of the steps after the warm ones, and their seconds."""

    def __init__(self) -> None:
        self.targets = self.seconds = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Starts the clock behind the warm steps."""
        if batch_idx == WARM:
            self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts."""
        if batch_idx >= WARM:
            self.seconds = time.perf_counter() - self.started
            self.targets += float(batch.responses)


class _Data(lightning.LightningDataModule):
    def __init__(self, samples: TaskMixture, batch_size: int) -> None:
        super().__init__()
        self.samples, self.batch_size = samples, batch_size

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.samples, EpochBatchSampler(len(self.samples), self.batch_size, 0))


def _train(way: str) -> dict[str, float]:
    """Targets a second of SFTModule under Lightning, and what its process grew by at most."""
    sequences, codes = _beauty()
    with tempfile.TemporaryDirectory() as folder:
        _, builder = _policy(way, codes)
        windows = training_windows(sequences, builder)
        write_token_arrays(TaskSource("next_item", builder, windows, ItemTexts(), 0), Path(folder))
        samples = TaskMixture([TaskPart(TokenArrays(Path(folder)))], pack=way == "codes")
        _step(way, codes, samples, 1, batch_size=4)  # what libraries take on first use is not a part of a step
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        targets = _step(way, codes, samples, WARM + STEPS)
        return {"targets": targets, "peak_mb": _memory("VmHWM") - before}


def _step(way: str, codes: torch.Tensor, samples: TaskMixture, steps: int, batch_size: int = BATCH) -> float:
    clock = _Clock()
    backbone, _ = _policy(way, codes)
    module = SFTModule(backbone, backbone.vocabulary.encode(codes), SFTConfig(), EvaluationConfig())
    with quiet():
        trainer = lightning.Trainer(
            max_steps=steps,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=_Data(samples, batch_size))
    return clock.targets / clock.seconds if clock.seconds else 0.0


def _memory(name: str) -> float:
    """A number of this process in MB, of those that Linux keeps."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def _inference() -> dict[str, dict[int, float]]:
    """Users a second of each way and number of beams; the ways take turns, medians count."""
    sequences, codes = _beauty()
    held_out = sequences.held_out("test")
    histories = held_out.histories.take(held_out.sample(USERS, seed=0))
    runs: dict[str, Callable[[int], object]] = {}
    for way in WAYS:
        backbone, builder = _policy(way, codes)
        model: Any = backbone.model.eval()
        if isinstance(model, IntRR):
            model.remember()
        runs[way] = _search(
            model, builder, CatalogueTrie(backbone.vocabulary.encode(codes), duplicates=True), histories
        )
    seconds: dict[str, dict[int, list[float]]] = {way: {beams: [] for beams in BEAMS} for way in WAYS}
    for turn in range(ROUNDS + 1):
        for beams in BEAMS:
            for way, run in runs.items():
                started = time.perf_counter()
                run(beams)
                if turn:  # the first is warm-up
                    seconds[way][beams].append(time.perf_counter() - started)
    return {
        way: {beams: USERS / statistics.median(seen) for beams, seen in each.items()} for way, each in seconds.items()
    }


def _search(model: Any, builder: PromptBuilder, trie: CatalogueTrie, histories: Any) -> Callable[[int], object]:
    def run(beams: int) -> object:
        with torch.inference_mode():
            prompts = builder.prompts(histories)
            return beam_search(model, prompts.input_ids, prompts.attention_mask, trie, beams)

    return run


if __name__ == "__main__":
    print(json.dumps(_train(sys.argv[1])))
