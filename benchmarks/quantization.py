"""The tokenizer beside the loop that its peers write, at a million items, and the encoding of texts before it.

Every measurement is a process of its own. The vectors are Beauty's, from ``DIG_DATA_ROOT``; without it the quickstart
shop's stand in. The texts that are encoded are made up. ``--minutes N`` stops the peers' loop earlier than after ten.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks.monitoring import VectorWriter
from datamodules.items import ContentDataModule, ItemDataModule, TextFiles
from dig import load_config, run_experiment
from dig.config.schema import RQVAEConfig
from dig.embeddings import load_text_encoder
from dig.embeddings.cache import VectorCache, content_keys
from dig.engine.console import console
from dig.evaluation.codebook import collision_rate, usage
from dig.modules.clip import TextEncoding
from dig.modules.rqvae import RQVAEModule
from dig.quantization import ItemFeatures, SemanticIds, kmeans, mlp, reassign, residual_kmeans

MINUTES = 10.0
MILLION = 1_000_000
PEER_BATCH = 1024
TEXTS = 2_000
Health = tuple[float, float, float, float]
"""Seconds, the least usage of a level, share of items in a collision, reconstruction error."""


def main() -> None:
    """Measures and prints tables and, as the last line, JSON."""
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    with tempfile.TemporaryDirectory() as name:
        vectors = Path(name) / "vectors.safetensors"
        save_file({"vectors": _beauty()}, vectors)
        ours, kmeans_found = _measured("ours", vectors), _measured("kmeans", vectors)
        peer = _measured("peer", vectors, minutes)
        scale = _measured("million", Path(name))
        texts = _measured("texts", Path(name))
    best = max(peer["health"], key=lambda point: (point[1], -point[2]))
    reached = next((point[0] for point in ours["health"] if point[1] >= best[1] and point[2] <= best[2]), None)
    _show(ours, kmeans_found, peer, best)
    _show_rates(scale, texts)
    trained, last = ours["health"][-1], ours["final"]
    print(
        json.dumps(
            {
                "peer_time_ratio": None if reached is None else round(best[0] / reached, 1),
                "beauty_seconds": round(last[0], 1),
                "min_usage": last[1],
                "collision_share": round(last[2], 4),
                "collision_share_before_reassignment": round(trained[2], 4),
                "reconstruction": round(last[3], 4),
                "peer_reconstruction": round(best[3], 4),
                "kmeans_seconds": round(kmeans_found["plain"][0], 1),
                "peer_usage": best[1],
                "peer_collision_share": round(best[2], 4),
                "assign_million_seconds": round(scale["assign"], 1),
                "assign_million_gb": round(scale["gigabytes"], 2),
                "encoding_fraction": round(texts["bare"] / texts["ours"], 3),
                "changed_fraction": round(texts["changed"] / texts["ours"], 4),
            }
        )
    )


def _measured(task: str, *arguments: object) -> dict[str, Any]:
    """Runs a task in a process of its own; what it prints last is JSON."""
    command = [sys.executable, __file__, "--task", task, *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def _beauty() -> Tensor:
    """Beauty's vectors by the pipeline's own stages, from its cache where they are there."""
    experiment = "beauty" if "DIG_DATA_ROOT" in os.environ else "quickstart"
    console.quiet = True
    config = load_config(experiment, ["stages=[embed]", "mining.miners=[lexical]", "visual.model=null"])
    if experiment == "beauty":
        config = load_config(experiment, ["stages=[embed]"])
    return load_file(run_experiment(config).artifacts["embed"] / "embeddings.safetensors")["embeddings"]


# --- tasks, each in a process of its own -----------------------------------------------------------------------------


class _Watch(Callback):
    """Notes the health of the catalogue's codes after every epoch, and stops the clock meanwhile."""

    def __init__(self, features: ItemFeatures, sizes: list[int], started: float) -> None:
        self.features, self.sizes, self.started = features, sizes, started
        self.paused = 0.0
        self.health: list[Health] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Measures."""
        now = time.perf_counter()
        codes = pl_module.assign_codes(self.features)  # type: ignore[operator]
        error = pl_module.reconstruction_error(self.features, codes)  # type: ignore[operator]
        seconds = now - self.started - self.paused
        self.health.append((seconds, float(usage(codes, self.sizes).min()), collision_rate(codes), error))
        self.paused += time.perf_counter() - now


def _ours(vectors: Path) -> dict[str, Any]:
    features, config = ItemFeatures(load_file(vectors)["vectors"]), RQVAEConfig()
    lightning.seed_everything(42, verbose=False)
    started = time.perf_counter()
    module = RQVAEModule(config, features.text_dim, health_every=10**6)
    watch = _Watch(features, config.sizes, started)
    trainer = _trainer(max_epochs=config.epochs, callbacks=[watch])
    trainer.fit(module, datamodule=ItemDataModule(features, config.batch_size, 42))
    before = module.assign_codes(features)
    codes = reassign(
        before, lambda rows: module.last_level_distances(features.take(rows), before[rows]), config.sizes[-1]
    )
    ids = SemanticIds.from_codes(list(map(str, range(features.items))), codes, config.sizes)
    ids.save(vectors.with_name("ids.parquet"))
    seconds = time.perf_counter() - started - watch.paused
    final = (
        seconds,
        float(usage(codes, config.sizes).min()),
        collision_rate(codes),
        module.reconstruction_error(features, codes),
    )
    return {"health": watch.health, "final": final}


def _peer(vectors: Path, minutes: str) -> dict[str, Any]:
    """A plain mini-batch RQ-VAE as published repositories write it, with our network and a k-means start."""
    torch.manual_seed(42)
    items = load_file(vectors)["vectors"]
    items = (items - items.mean(dim=0)) / items.std(dim=0)
    config = RQVAEConfig()
    widths = [items.shape[1], *config.hidden_dims, config.latent_dim]
    encoder, decoder = mlp(widths), mlp(widths[::-1])
    books = nn.ParameterList([nn.Parameter(torch.zeros(size, config.latent_dim)) for size in config.sizes])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), *books], lr=1e-3)
    loader = DataLoader(TensorDataset(items), PEER_BATCH, shuffle=True)
    started, paused, health, first = time.perf_counter(), 0.0, [], True

    def quantise(latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        residual, total, loss, codes = latents, torch.zeros_like(latents), latents.new_zeros(()), []
        for book in books:
            chosen = torch.cdist(residual, book).argmin(dim=1)
            vector = book[chosen]
            loss = loss + F.mse_loss(vector, residual.detach()) + 0.25 * F.mse_loss(residual, vector.detach())
            residual, total = residual - vector, total + vector
            codes.append(chosen)
        return latents + (total - latents).detach(), torch.stack(codes, dim=1), loss

    while time.perf_counter() - started - paused < float(minutes) * 60:
        for (batch,) in loader:
            if first:
                with torch.no_grad():
                    residual = encoder(batch)
                    for book in books:
                        book.copy_(kmeans(residual, len(book), 20))
                        residual = residual - book[torch.cdist(residual, book).argmin(dim=1)]
                first = False
            quantised, _, loss = quantise(encoder(batch))
            loss = loss + F.mse_loss(decoder(quantised), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        now = time.perf_counter()
        with torch.no_grad():
            quantised, codes, _ = quantise(encoder(items))
            error = float(F.mse_loss(decoder(quantised), items))
        health_now = (float(usage(codes, config.sizes).min()), collision_rate(codes), error)
        health.append((now - started - paused, *health_now))
        paused += time.perf_counter() - now
    return {"health": health}


def _kmeans(vectors: Path) -> dict[str, Any]:
    items = load_file(vectors)["vectors"]
    items = (items - items.mean(dim=0)) / items.std(dim=0)
    sizes, results = RQVAEConfig().sizes, {}
    for name, balanced in (("plain", False), ("balanced", True)):
        started = time.perf_counter()
        made = residual_kmeans(items, sizes, balanced=balanced, generator=torch.Generator().manual_seed(42))
        seconds = time.perf_counter() - started
        error = float((items - made.quantized).square().mean())
        results[name] = (seconds, float(usage(made.codes, sizes).min()), collision_rate(made.codes), error)
    return results


def _million(folder: Path) -> dict[str, Any]:
    """Codes of a million items, and an epoch of training at three sizes."""
    config = RQVAEConfig(batch_size=4096, epochs=1)
    epochs = {}
    for items in (MILLION // 10, MILLION * 3 // 10, MILLION):
        features = ItemFeatures(_random(items, 384))
        module = RQVAEModule(config, 384, health_every=10**6)
        module.initialise(features.take(slice(0, 20_000)))
        watch = _Clock()
        _trainer(max_epochs=1, callbacks=[watch]).fit(module, datamodule=ItemDataModule(features, config.batch_size, 0))
        epochs[items] = watch.seconds
    del features, module
    save_file({"vectors": _random(MILLION, 768)}, folder / "million.safetensors")
    assigned = _measured("assign", folder / "million.safetensors")
    return {"epochs": epochs, **assigned}


class _Clock(Callback):
    """Seconds of an epoch without its last batch, whose health measurement is not training."""

    seconds = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Starts."""
        self._started = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Keeps the latest."""
        self.seconds = time.perf_counter() - self._started


def _assign(vectors: Path) -> dict[str, Any]:
    features = ItemFeatures(load_file(vectors)["vectors"])
    module = RQVAEModule(RQVAEConfig(), features.text_dim)
    module.initialise(features.take(slice(0, 20_000)))
    started = time.perf_counter()
    module.assign_codes(features)
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text()
    return {"assign": seconds, "gigabytes": int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9}


def _texts(folder: Path) -> dict[str, Any]:
    """The bare encoder, batch by batch; the same through the cache; and again with one text in a hundred changed."""
    texts = _sample_texts()
    encoder = load_text_encoder("all-MiniLM-L6-v2", "cpu", 256)
    files = TextFiles(texts, content_keys(texts), 64)
    encoder.encode_batch(texts[:64])
    bare = min(_timed(lambda: [encoder.encode_batch(files[at].texts) for at in range(len(files))]) for _ in range(2))
    ours = min(_timed(lambda at=at: _through(encoder, texts, folder / str(at))) for at in range(2))  # type: ignore[misc]
    changed = [f"{text} (new)" if row % 100 == 0 else text for row, text in enumerate(texts)]
    return {"bare": bare, "ours": ours, "changed": _timed(lambda: _through(encoder, changed, folder / "0"))}


def _through(encoder: Any, texts: list[str], folder: Path) -> None:
    keys, cache = content_keys(texts), VectorCache(folder)
    new = np.flatnonzero(~cache.find(keys))
    files = TextFiles([texts[row] for row in new], keys[new], 64)
    trainer = _trainer(callbacks=[VectorWriter(cache)])
    trainer.predict(TextEncoding(encoder), datamodule=ContentDataModule(files), return_predictions=False)
    VectorCache(folder).gather(keys)


def _sample_texts() -> list[str]:
    words = ["soft", "cotton", "brush", "set", "for", "travel", "with", "organic", "oil", "and", "a", "gift", "box"]
    random = np.random.default_rng(0)
    return [" ".join(random.choice(words, random.integers(8, 120))) + f" {number}" for number in range(TEXTS)]


# --- small helpers ---------------------------------------------------------------------------------------------------


def _trainer(**settings: Any) -> lightning.Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(**quiet, use_distributed_sampler=False, **settings)


def _random(items: int, dim: int) -> Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(0))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _rows(named: dict[str, Health]) -> Iterator[list[str]]:
    for name, (seconds, used, shared, error) in named.items():
        yield [name, f"{seconds:.1f}", f"{used:.1%}", f"{shared:.2%}", f"{error:.3f}"]


def _show(ours: dict[str, Any], found: dict[str, Any], peer: dict[str, Any], best: Health) -> None:
    table = Table(title="from vectors to codes, 3 × 256")
    for heading in ("how", "seconds", "least usage", "in a collision", "error"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    named = {
        "dig RQ-VAE": ours["health"][-1],
        "dig RQ-VAE, collisions reassigned": ours["final"],
        "plain RQ-VAE loop, at its best": best,
        "plain RQ-VAE loop, at its end": peer["health"][-1],
        "residual k-means": found["plain"],
        "balanced residual k-means": found["balanced"],
    }
    for row in _rows(named):
        table.add_row(*row)
    Console().print(table)


def _show_rates(scale: dict[str, Any], texts: dict[str, Any]) -> None:
    table = Table(title="at size")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for items, seconds in scale["epochs"].items():
        table.add_row(f"an epoch over {int(items):,} items × 384", f"{seconds:.1f}")
    table.add_row(f"codes of 1,000,000 items × 768 (peak {scale['gigabytes']:.1f} GB)", f"{scale['assign']:.1f}")
    table.add_row(f"{TEXTS:,} texts, the bare encoder", f"{texts['bare']:.1f}")
    table.add_row(f"{TEXTS:,} texts, Trainer.predict and cache", f"{texts['ours']:.1f}")
    table.add_row("the same with 1 % of the texts changed", f"{texts['changed']:.2f}")
    Console().print(table)


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": lambda path: _ours(Path(path)),
    "kmeans": lambda path: _kmeans(Path(path)),
    "peer": lambda path, minutes: _peer(Path(path), minutes),
    "million": lambda path: _million(Path(path)),
    "assign": lambda path: _assign(Path(path)),
    "texts": lambda path: _texts(Path(path)),
}

if __name__ == "__main__":
    if "--task" in sys.argv:
        at = sys.argv.index("--task")
        print(json.dumps(TASKS[sys.argv[at + 1]](*sys.argv[at + 2 :])))
    else:
        main()
