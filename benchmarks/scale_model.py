"""What docs/scale.md predicts, beside what is measured here: tries and codes of three catalogues, three backbones.

A training step's state is predicted exactly, its time by the rate that the middle size reaches.
"""

from __future__ import annotations

import json
import os
import time

import torch
from rich.console import Console
from rich.table import Table

from dig.config.schema import BackboneConfig
from dig.generation import CatalogueTrie
from dig.generation.backbone import build_backbone

CATALOGUES = (10_000, 100_000, 1_000_000)
BACKBONES = {"1 M": (128, 4), "5 M": (256, 6), "25 M": (512, 8)}
"""Width and layers."""
NODE_BYTES, ITEM_BYTES, CODE_BYTES = 20, 8, 8
"""A node of the trie; an item of it; an item and level in the table of codes."""
STATE_BYTES, FLOPS = 16, 6
"""A trained parameter in float32 with AdamW: weight, gradient, two moments; operations a parameter and token."""
BATCH, LENGTH = 16, 64

Row = tuple[str, str]


def main() -> None:
    """Measures and prints a table and, as the last line, JSON."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    table = Table("what", "", title="the model of docs/scale.md")
    figures: dict[str, float] = {}
    for part in (catalogue, backbone):
        rows, measured = part()
        for row in rows:
            table.add_row(*row)
        figures |= measured
    Console().print(table)
    print(json.dumps(figures))


def catalogue() -> tuple[list[Row], dict[str, float]]:
    """What grows with the catalogue, at three sizes, beside the model of docs/scale.md."""
    rows: list[Row] = []
    worst = 1.0
    for items in CATALOGUES:
        generator = torch.Generator().manual_seed(0)
        size = max(int(items ** (1 / 3)) * 2, 32)
        drawn = torch.randint(0, size, (items * 2, 3), generator=generator).unique(dim=0)
        codes = drawn[torch.randperm(len(drawn), generator=generator)[:items]]
        started = time.perf_counter()
        trie = CatalogueTrie(codes + size * torch.arange(3))
        seconds = time.perf_counter() - started
        bytes_used = sum(each.numel() * each.element_size() for each in trie.buffers())
        nodes = len(codes) + min(len(codes), size**2) + size + 1
        predicted = NODE_BYTES * nodes + ITEM_BYTES * len(codes)
        worst = max(worst, bytes_used / predicted, predicted / bytes_used)
        name = f"{len(codes):,} items"
        rows.append((f"{name}: trie, built in {seconds:.2f} s", _megabytes(bytes_used, predicted)))
        table = codes.numel() * codes.element_size()
        rows.append((f"{name}: codes", _megabytes(table, CODE_BYTES * codes.numel())))
    return rows, {"trie_model_ratio": round(worst, 2)}


def backbone() -> tuple[list[Row], dict[str, float]]:
    """A training step at three sizes: state exactly, time by the rate that the middle size reaches."""
    measured: dict[str, tuple[int, int, float]] = {}
    for name, (width, layers) in BACKBONES.items():
        shape = {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
        }
        model = build_backbone(BackboneConfig(config=shape), [256] * 3, LENGTH).model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        tokens = torch.randint(0, 768, (BATCH, LENGTH))
        times = []
        for _ in range(6):
            started = time.perf_counter()
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
            times.append(time.perf_counter() - started)
        state = [value for each in optimizer.state.values() for value in each.values() if value.ndim]
        kept = [*model.parameters(), *(p.grad for p in model.parameters()), *state]
        parameters = sum(p.numel() for p in model.parameters())
        measured[name] = (parameters, sum(each.numel() * each.element_size() for each in kept), min(times[1:]))
    parameters, _, seconds = list(measured.values())[1]
    rate = FLOPS * parameters * BATCH * LENGTH / seconds
    rows: list[Row] = [("rate of the middle size", f"{rate / 1e9:.0f} GFLOP/s")]
    worst = 1.0
    for name, (count, held, seconds) in measured.items():
        predicted = FLOPS * count * BATCH * LENGTH / rate
        worst = max(worst, predicted / seconds, seconds / predicted)
        rows.append((f"{name}: state of {count / 1e6:.1f} M parameters", _megabytes(held, STATE_BYTES * count)))
        took = f"{seconds * 1e3:.0f} ms (predicted {predicted * 1e3:.0f})"
        rows.append((f"{name}: a step of {BATCH * LENGTH} tokens", took))
    return rows, {"step_model_ratio": round(worst, 2)}


def _megabytes(found: float, predicted: float) -> str:
    return f"{found / 1e6:.2f} MB (predicted {predicted / 1e6:.2f})"


if __name__ == "__main__":
    main()
