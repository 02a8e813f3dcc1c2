"""A fit of RQVAEModule on one process or on two: ``python two_ranks_rqvae.py DEVICES UPDATE FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning
import numpy as np
import torch

from datamodules.items import ItemDataModule, Partners
from dig.config.schema import RQVAEConfig
from dig.modules.rqvae import RQVAEModule
from dig.quantization import ItemFeatures
from support import tiny


def catalogue(items: int = 256) -> ItemFeatures:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(20, 12, generator=generator)
    vectors = centres[torch.arange(items) % 20] + 0.4 * torch.randn(items, 12, generator=generator)
    has_image = torch.arange(items) % 3 > 0
    return ItemFeatures(vectors, torch.randn(items, 6, generator=generator), has_image)


def train(devices: int, update: str, file: Path) -> None:
    """Saves the codes and the weights after eight epochs."""
    torch.set_num_threads(1)
    lightning.seed_everything(5, verbose=False)
    features = catalogue()
    config = RQVAEConfig(
        codebook_size=16,
        levels=2,
        latent_dim=8,
        hidden_dims=[32],
        epochs=8,
        restart_after=4,
        codebook_update=update,
        info_nce_weight=0.1,
        info_nce_dim=4,
        sinkhorn_levels=[2],
        visual_dim=4,
    )
    module = RQVAEModule(config, features.text_dim, features.image_dim)
    rows = np.arange(features.items)
    partners = Partners(rows, (rows + 20) % features.items, features.items, seed=1)
    data = ItemDataModule(features, 64 // devices, seed=3, partners=partners)
    trainer = tiny.quiet_trainer(
        devices=devices, strategy="ddp_fork" if devices > 1 else "auto", max_epochs=8, limit_val_batches=0
    )
    trainer.fit(module, datamodule=data)
    torch.save({"codes": module.assign_codes(features), "weights": module.state_dict()}, file)


if __name__ == "__main__":
    train(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
