"""RQVAEModule on a tiny catalogue: a real Lightning fit, its start, its health and its resume."""

import subprocess
import sys
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from support import two_ranks_rqvae
from support.preloaded import Preloaded

from callbacks.resume import StepSeed
from datamodules.items import ItemDataModule, Partners
from dig.config.schema import RQVAEConfig
from dig.evaluation.codebook import collision_rate, neighbour_recall, usage
from dig.modules.rqvae import RQVAEModule
from dig.quantization import ItemFeatures

DIM = 12


def catalogue(items: int = 300) -> torch.Tensor:
    """Clustered vectors with an offset and unequal scales, as text embeddings have; one dimension is constant."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(20, DIM, generator=generator)
    vectors = centres[torch.arange(items) % 20] + 0.4 * torch.randn(items, DIM, generator=generator)
    vectors[:, -1] = 0.0
    return vectors * torch.linspace(0.1, 3.0, DIM) + 5.0


def features(items: int = 300) -> ItemFeatures:
    return ItemFeatures(catalogue(items))


def config(**change: object) -> RQVAEConfig:
    values = {"codebook_size": 16, "levels": 2, "latent_dim": 8, "hidden_dims": [32], "batch_size": 64, "epochs": 12}
    return RQVAEConfig(**(values | {"learning_rate": 3e-3, "restart_after": 10} | change))  # type: ignore[arg-type]


def fit(
    settings: RQVAEConfig, checkpoint: Path | None = None, callbacks: list[L.Callback] | None = None
) -> tuple[RQVAEModule, L.Trainer]:
    L.seed_everything(3, verbose=False)
    module = RQVAEModule(settings, DIM)
    keeps = any(isinstance(callback, ModelCheckpoint) for callback in callbacks or [])
    trainer = L.Trainer(
        max_epochs=settings.epochs,
        accelerator="cpu",
        logger=False,
        callbacks=callbacks or [],
        enable_checkpointing=keeps,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=ItemDataModule(features(), settings.batch_size, seed=3), ckpt_path=checkpoint)
    return module, trainer


def reconstruction_error(module: RQVAEModule) -> float:
    module.eval()
    with torch.no_grad():
        inputs, reconstruction, _ = module(features())
    return float((inputs - reconstruction).square().mean())


def same_state(first: L.LightningModule, second: L.LightningModule) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_fit_uses_all_codes_and_improves_on_the_kmeans_start():
    L.seed_everything(3, verbose=False)
    start = RQVAEModule(config(), DIM)
    start.initialise(features(), torch.Generator().manual_seed(3))
    module, trainer = fit(config(epochs=60))
    codes = module.assign_codes(features())
    assert codes.shape == (300, 2) and codes.dtype == torch.int64
    assert usage(codes, [16, 16]).min() >= 0.9
    assert reconstruction_error(module) < 0.6 * reconstruction_error(start)
    logged = trainer.callback_metrics
    assert float(logged["codebook/usage_2"]) == pytest.approx(float(usage(codes, [16, 16])[1]))
    assert float(logged["codebook/collision_rate"]) == pytest.approx(collision_rate(codes))
    assert {"train/loss", "train/reconstruction", "train/quantizer", "codebook/perplexity_1"} <= set(logged)
    assert float(logged["train/loss"]) == pytest.approx(
        float(logged["train/reconstruction"]) + float(logged["train/quantizer"]), rel=1e-4
    )


def test_the_catalogue_is_standardised():
    module = RQVAEModule(config(), DIM)
    module.initialise(features())
    inputs, _, _ = module.eval()(features())
    torch.testing.assert_close(inputs.mean(dim=0), torch.zeros(DIM), rtol=0, atol=1e-5)
    spread = inputs.std(dim=0, correction=0)
    torch.testing.assert_close(spread[:-1], torch.ones(DIM - 1), rtol=1e-4, atol=0)
    assert spread[-1] == 0, "a constant dimension carries nothing and must not blow up"


def test_the_first_step_sees_initialised_codebooks():
    seen: list[torch.Tensor] = []

    class Look(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
            if trainer.global_step == 0:
                seen.append(pl_module.assign_codes(features()))  # type: ignore[operator]

    fit(config(epochs=1), callbacks=[Look()])
    assert usage(seen[0], [16, 16]).tolist() == [1.0, 1.0]


def test_a_fit_is_deterministic():
    assert same_state(fit(config(epochs=2))[0], fit(config(epochs=2))[0])


@pytest.mark.parametrize("which", ["epoch", "middle"])
def test_resume_equals_an_uninterrupted_fit(tmp_path: Path, which: str):
    every = {"every_n_epochs": 1} if which == "epoch" else {"every_n_train_steps": 7}  # five steps per epoch
    keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=which == "epoch", **every)
    whole, _ = fit(config(epochs=4), callbacks=[keep])
    middle = tmp_path / ("step=10.ckpt" if which == "epoch" else "step=7.ckpt")
    resumed, trainer = fit(config(epochs=4), checkpoint=middle)
    assert trainer.global_step == 20
    assert same_state(whole, resumed)


def test_moments_of_restarted_codes_are_forgotten():
    class Kill(L.Callback):
        forgotten = 0

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: RQVAEModule, *_: object) -> None:
            if trainer.global_step == 5:
                pl_module.quantizer.codebooks[0].data[3] = 1000.0

        def on_before_optimizer_step(
            self, trainer: L.Trainer, pl_module: RQVAEModule, optimizer: torch.optim.Optimizer
        ) -> None:
            codebook = pl_module.quantizer.codebooks[0]
            moments = optimizer.state[codebook]["exp_avg"] if optimizer.state else torch.ones(16, 8)
            if trainer.global_step > 5 and codebook[3, 0] < 900 and not self.forgotten:
                assert moments[3].abs().max() == 0
                assert moments.abs().max() > 0
                self.forgotten = trainer.global_step

    kill = Kill()
    fit(config(epochs=4, restart_after=6), callbacks=[kill])
    assert kill.forgotten >= 10


def test_assigning_codes_neither_trains_nor_depends_on_chunks(monkeypatch: pytest.MonkeyPatch):
    module, _ = fit(config(epochs=1))
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    codes = module.assign_codes(features())
    monkeypatch.setattr("dig.modules.rqvae._CHUNK_ITEMS", 7)
    assert torch.equal(module.assign_codes(features()), codes)
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_sizes_may_differ_between_levels():
    module, _ = fit(config(codebook_size=[8, 6, 4], epochs=1))
    assert module.assign_codes(features()).max(dim=0).values.tolist() == [7, 5, 3]


def test_fewer_items_than_codes_still_fits():
    L.seed_everything(3, verbose=False)
    module = RQVAEModule(config(codebook_size=64, epochs=2), DIM)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=ItemDataModule(features(30), 8, seed=3))
    assert collision_rate(module.assign_codes(features(30))) < 0.5


def behaving(items: int = 300) -> ItemFeatures:
    """Text, pictures of two thirds of the items, and collaborative vectors of nine in ten."""
    generator = torch.Generator().manual_seed(1)
    behaviour = torch.nn.functional.normalize(torch.randn(items, 5, generator=generator), dim=1)
    behaviour[::10] = 0.0
    return ItemFeatures(
        catalogue(items), torch.randn(items, 6, generator=generator), torch.arange(items) % 3 > 0, behaviour
    )


@pytest.mark.parametrize(
    "change",
    [
        {"codebook_update": "ema"},
        {"estimator": "rotation"},
        {"sinkhorn_levels": [2]},
        {"info_nce_weight": 0.2},
        {"collaborative_weight": 0.2},
        {"diversity_weight": 0.1, "diversity_clusters": 4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_way_of_training_learns_and_resumes_exactly(tmp_path: Path, change: dict):
    every = behaving()
    partners = Partners(np.arange(280), np.arange(20, 300), 300, seed=1)

    def train(epochs: int, checkpoint: Path | None = None) -> tuple[RQVAEModule, L.Trainer]:
        L.seed_everything(3, verbose=False)
        module = RQVAEModule(config(epochs=6, **change), DIM, 6, 5)
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=False, every_n_train_steps=7)
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            log_every_n_steps=5,
            callbacks=[keep, StepSeed(3)],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=ItemDataModule(every, 64, seed=3, partners=partners), ckpt_path=checkpoint)
        return module, trainer

    whole, trainer = train(6)
    term = next(iter(change)).removesuffix("_weight")
    if term in ("info_nce", "collaborative", "diversity"):
        assert float(trainer.callback_metrics[f"train/{term}"]) > 0
    assert usage(whole.assign_codes(every), [16, 16]).min() > 0.8
    start = RQVAEModule(config(), DIM, 6, 5)
    start.initialise(every, torch.Generator().manual_seed(3))
    assert whole.reconstruction_error(every) < start.reconstruction_error(every)
    resumed, _ = train(6, tmp_path / "step=7.ckpt")
    assert same_state(whole, resumed)


def test_contrast_brings_co_purchased_items_together():
    rows = np.arange(300)
    pairs = (rows, (rows + 7) % 300)  # no two of these are alike by their vectors
    lifts = []
    for weight in (0.0, 1.0):
        L.seed_everything(3, verbose=False)
        module = RQVAEModule(config(epochs=60, info_nce_weight=weight, codebook_size=[8, 8]), DIM)
        trainer = L.Trainer(
            max_epochs=60,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        partners = Partners(*pairs, 300, seed=1) if weight else None
        trainer.fit(module, datamodule=ItemDataModule(features(), 64, seed=3, partners=partners))
        lifts.append(neighbour_recall(module.assign_codes(features()), *pairs).lift[0])
    assert lifts[1] > 1.5 * lifts[0]


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_two_processes_give_the_codes_of_one(tmp_path: Path, update: str):
    """The tolerance: weights equal to rounding, one item in a hundred with a code beyond the next border."""
    command = [sys.executable, two_ranks_rqvae.__file__, "2", update, str(tmp_path / "two.pt")]
    other = Preloaded(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    two_ranks_rqvae.train(1, update, tmp_path / "one.pt")
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 0, output
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert (one["codes"] == two["codes"]).double().mean() >= 0.99
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, atol=1e-3, rtol=1e-2, msg=name)
