"""Supervised fine-tuning beside transformers' ``Trainer``, beside sliding windows, and beside the matrix product.

Beauty's training part (``DIG_DATA_ROOT``), random Semantic IDs of 3 × 256, a Qwen2 architecture of about 5 M parameters
from scratch. The last table is the peak memory of LoRA on a Qwen2 of 0.5 B parameters with random weights.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from transformers import Trainer, TrainerCallback, TrainingArguments

from datamodules.histories import Windows, answer_windows, compact_windows
from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.mixture import TaskMixture, TaskPart, TokenArrays, write_token_arrays
from datamodules.preparation import prepare
from datamodules.prompts import SidPrompts
from datamodules.sources import read_source
from datamodules.splits import Sequences
from datamodules.tasks import ItemTexts, TaskSource
from dig.config import load_config
from dig.config.schema import BackboneConfig, EvaluationConfig, LoraConfig, PromptConfig, SFTConfig
from dig.engine.console import console
from dig.engine.training import quiet
from dig.generation.backbone import Backbone, build_backbone
from dig.generation.lora import add_lora
from dig.modules.sft import SFTModule

CODES, LEVELS, HISTORY = 256, 3, 20
BATCH, WARM, STEPS = 128, 3, 20
FIVE_MILLION = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 4}
HALF_BILLION = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
}
LORA_BATCH, LORA_TOKENS = 4, 256
MEMORY = {
    "adapters alone, fp32": ("32-true", False),
    "with gradient checkpointing": ("32-true", True),
    "bf16, with gradient checkpointing": ("bf16-true", True),
}


def main() -> None:
    """Measures and prints tables and, as the last line, JSON."""
    if len(sys.argv) == 4 and sys.argv[1] == "lora":
        print(json.dumps(_lora_step(sys.argv[2], sys.argv[3] == "True")))
        return
    console.quiet = True
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        figures = _training(Path(folder))
    print(json.dumps(figures | _memory()))


# --- training --------------------------------------------------------------------------------------------------------


def _training(folder: Path) -> dict[str, float]:
    config = load_config("beauty").data
    sequences = prepare(read_source(config), config).sequences
    codes = torch.randint(0, CODES, (int(sequences.items.max()) + 1, LEVELS))
    every = _samples(sequences, codes, compact_windows(sequences.train, HISTORY), folder / "every")
    single = _samples(sequences, codes, answer_windows(sequences.train, HISTORY), folder / "single")
    packed, padded = TaskMixture(every.parts, pack=True), TaskMixture(every.parts, pack=False)
    products = _product_rate(torch.float32)
    ours = _ours(packed, codes, "32-true")
    mixed = _ours(packed, codes, "bf16-mixed")
    theirs = _theirs(padded, codes, folder)
    sliding = _ours(TaskMixture(single.parts, pack=True), codes, "32-true")
    tokens = int(every.lengths.sum())
    parameters = sum(p.numel() for p in _backbone().model.parameters())
    flops = 6 * parameters * ours["tokens"]
    table = Table(title=f"{parameters / 1e6:.1f} M parameters, Beauty, {torch.get_num_threads()} threads")
    for heading in ("how", "useful tokens/s", "targets/s", "minutes an epoch"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    rows = {"dig, every position, packed": ours, "the same in bf16-mixed": mixed}
    for name, row in (rows | {"transformers' Trainer, padded": theirs}).items():
        table.add_row(name, f"{row['tokens']:,.0f}", f"{row['targets']:,.0f}", f"{tokens / row['tokens'] / 60:.1f}")
    minutes = int(single.lengths.sum()) / sliding["tokens"] / 60
    table.add_row("dig, a window a target", f"{sliding['tokens']:,.0f}", f"{sliding['targets']:,.0f}", f"{minutes:.1f}")
    Console().print(table)
    Console().print(
        f"matrix product {products / 1e9:.0f} GFLOP/s in fp32; training {flops / 1e9:.0f} GFLOP/s "
        "(6 a parameter and token)"
    )
    return {
        "hf_trainer_ratio": round(ours["tokens"] / theirs["tokens"], 2),
        "sliding_window_ratio": round(ours["targets"] / sliding["targets"], 2),
        "epoch_minutes": round(tokens / ours["tokens"] / 60, 2),
        "matmul_fraction": round(flops / products, 3),
        "bf16_ratio": round(mixed["tokens"] / ours["tokens"], 2),
    }


def _samples(sequences: Sequences, codes: torch.Tensor, windows: Windows, folder: Path) -> TaskMixture:
    backbone = _backbone()
    tokens = backbone.vocabulary.encode(codes)
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(max_history=HISTORY), from_scratch=True)
    write_token_arrays(TaskSource("next_item", builder, windows, ItemTexts(), 0), folder)
    return TaskMixture([TaskPart(TokenArrays(folder))])


def _backbone() -> Backbone:
    torch.manual_seed(0)
    config = BackboneConfig(config=FIVE_MILLION)
    return build_backbone(config, [CODES] * LEVELS, (HISTORY + 1) * LEVELS + 1)


class _Clock(Callback):
    """Tokens and targets of the steps after the warm ones, and their seconds."""

    def __init__(self) -> None:
        self.tokens = self.targets = self.seconds = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Starts the clock behind the warm steps."""
        if batch_idx == WARM:
            self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts."""
        if batch_idx >= WARM:
            self.seconds = time.perf_counter() - self.started
            self.tokens += int((batch.attention_mask > 0).sum())
            self.targets += float(batch.responses)


class _Data(lightning.LightningDataModule):
    def __init__(self, samples: TaskMixture) -> None:
        super().__init__()
        self.samples = samples

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.samples, EpochBatchSampler(len(self.samples), BATCH, 0))


def _ours(samples: TaskMixture, codes: torch.Tensor, precision: Any) -> dict[str, float]:
    """Rates of SFTModule under Lightning, as the stage runs it."""
    backbone, clock = _backbone(), _Clock()
    module = SFTModule(backbone, backbone.vocabulary.encode(codes), SFTConfig(), EvaluationConfig())
    with quiet():
        trainer = lightning.Trainer(
            max_steps=WARM + STEPS,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            precision=precision,
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=_Data(samples))
    return {"tokens": clock.tokens / clock.seconds, "targets": clock.targets / clock.seconds}


class _TheirClock(TrainerCallback):
    def __init__(self) -> None:
        self.started = self.seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == WARM:
            self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step > WARM:
            self.seconds = time.perf_counter() - self.started


def _theirs(samples: TaskMixture, codes: torch.Tensor, folder: Path) -> dict[str, float]:
    """Rates of transformers' Trainer on the same samples in the same order, a sample a row, padded."""
    order = [number for batch in EpochBatchSampler(len(samples), BATCH, 0) for number in batch][
        : (WARM + STEPS) * BATCH
    ]
    rows = list(_rows(samples, order))
    clock = _TheirClock()
    arguments = TrainingArguments(
        str(folder / "hf"),
        per_device_train_batch_size=BATCH,
        max_steps=WARM + STEPS,
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
    )
    trainer = Trainer(_backbone().model, arguments, train_dataset=rows, data_collator=_pad, callbacks=[clock])  # type: ignore[arg-type]
    trainer.train()
    timed = rows[WARM * BATCH :]
    tokens, targets = sum(len(row["input_ids"]) for row in timed), sum(row["targets"] for row in timed)
    return {"tokens": tokens / clock.seconds, "targets": targets / clock.seconds}


def _rows(samples: TaskMixture, order: list[int]) -> Iterator[dict[str, Any]]:
    for number in order:
        batch = samples[[number]]
        yield {"input_ids": batch.input_ids[0], "labels": batch.labels[0], "targets": float(batch.responses)}


def _pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    ids, labels = ([row[name] for row in rows] for name in ("input_ids", "labels"))
    mask = pad([torch.ones_like(row) for row in ids], batch_first=True)
    return {
        "input_ids": pad(ids, batch_first=True),
        "attention_mask": mask,
        "labels": pad(labels, batch_first=True, padding_value=-100),
    }


def _product_rate(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    left, right = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    left @ right
    rates = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(4):
            left @ right
        rates.append(4 * 2 * 2048**3 / (time.perf_counter() - started))
    return float(np.median(rates))


# --- memory ----------------------------------------------------------------------------------------------------------


def _memory() -> dict[str, float]:
    figures = {}
    for name, (precision, checkpointing) in MEMORY.items():
        command = [sys.executable, __file__, "lora", precision, str(checkpointing)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves
        figures[name] = json.loads(output.splitlines()[-1])
    table = Table(
        title=f"LoRA on {figures['adapters alone, fp32']['parameters'] / 1e6:.0f} M parameters, a step of "
        f"{LORA_BATCH} × {LORA_TOKENS} tokens"
    )
    for heading in ("how", "loaded, GB", "peak, GB"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    for name, row in figures.items():
        table.add_row(name, f"{row['loaded']:.2f}", f"{row['peak']:.2f}")
    Console().print(table)
    return {
        "lora_peak_gb": round(figures["adapters alone, fp32"]["peak"], 2),
        "lora_bf16_checkpointed_peak_gb": round(figures["bf16, with gradient checkpointing"]["peak"], 2),
    }


def _lora_step(precision: str, checkpointing: bool) -> dict[str, float]:
    """One training step of adapters and SID rows, in a process of its own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype = torch.bfloat16 if precision == "bf16-true" else torch.float32
    config = AutoConfig.for_model("qwen2", tie_word_embeddings=True, **HALF_BILLION)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    parameters = model.num_parameters()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    wrapped = add_lora(model, LoraConfig(dropout=0.0), list(range(151_000, 151_768))).train()
    loaded = _peak()
    ids = torch.randint(0, 151_000, (LORA_BATCH, LORA_TOKENS))
    hidden = wrapped.get_base_model().base_model(input_ids=ids, use_cache=False).last_hidden_state[:, -LEVELS - 1 : -1]
    logits = wrapped.get_output_embeddings()(hidden).float()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, -LEVELS:].flatten()).backward()
    torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad]).step()
    return {"loaded": loaded, "peak": _peak(), "parameters": parameters}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
