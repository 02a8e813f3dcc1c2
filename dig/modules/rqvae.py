"""RQVAEModule: the residual-quantised autoencoder that turns item vectors into Semantic IDs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor

from dig.config.schema import RQVAEConfig
from dig.evaluation.codebook import collision_rate, largest_collision, perplexity, usage
from dig.quantization import QuantizerOutput, ResidualQuantizer, mlp

__all__ = ["RQVAEModule"]

_INITIAL_ITEMS = 32_768
"""The k-means initialisation looks at this many random items at most."""
_CHUNK_ITEMS = 8192
"""Items encoded at a time when the whole catalogue is assigned."""


class RQVAEModule(LightningModule):
    """RQ-VAE over standardised item vectors (TIGER, arXiv 2305.05065): encoder, residual quantizer, decoder.

    Before the first step of a fresh fit, the statistics of `trainer.datamodule.embeddings` are taken and the codebooks
    are set by k-means on the encoder's output; a resumed fit finds both in its checkpoint.

    Args:
        input_dim: dimension of an item vector.
        config: sizes and training settings.
        health_every: epochs between two measurements of the catalogue's codes; the last epoch always measures.
    """

    def __init__(self, input_dim: int, config: RQVAEConfig, health_every: int = 5) -> None:
        super().__init__()
        self.config = config
        self.health_every = health_every
        widths = [input_dim, *config.hidden_dims, config.latent_dim]
        self.encoder = mlp(widths)
        self.decoder = mlp(widths[::-1])
        self.quantizer = ResidualQuantizer(
            config.sizes,
            config.latent_dim,
            commitment_weight=config.commitment_weight,
            restart_after=config.restart_after,
            kmeans_iterations=config.kmeans_iterations,
        )
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("scale", torch.ones(input_dim))

    @torch.no_grad()
    def initialise(self, embeddings: Tensor, generator: torch.Generator | None = None) -> None:
        """Takes the catalogue's statistics and sets the codebooks by k-means on the encoder's output.

        Args:
            embeddings: ``(items, input_dim)``.
            generator: source of randomness, a CPU generator; None takes torch's global one.
        """
        self.mean.copy_(embeddings.mean(dim=0, dtype=torch.float64))
        deviation = embeddings.std(dim=0, correction=0)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, 1.0))  # a constant dimension stays at zero
        if len(embeddings) > _INITIAL_ITEMS:
            embeddings = embeddings[torch.randperm(len(embeddings), generator=generator)[:_INITIAL_ITEMS]]
        self.quantizer.initialise(self._encode_chunked(embeddings), generator)

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor, QuantizerOutput]:
        """Standardised inputs ``(batch, input_dim)``, their reconstruction, and the quantizer's output."""
        inputs = self._standardise(embeddings)
        output = self.quantizer(self.encoder(inputs))
        return inputs, self.decoder(output.quantized), output

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Reconstruction error plus the quantizer's loss, both means over batch and dimensions."""
        inputs, reconstruction, output = self(batch)
        reconstruction_loss = F.mse_loss(reconstruction, inputs)
        loss = reconstruction_loss + output.loss
        self._forget_moments(output.restarted)
        terms = {"loss": loss, "reconstruction": reconstruction_loss, "quantizer": output.loss}
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=len(batch))
        return loss

    @torch.no_grad()
    def assign_codes(self, embeddings: Tensor) -> Tensor:
        """Codes ``(items, levels)`` int64 of the item vectors ``(items, input_dim)``, on the CPU."""
        training = self.training
        self.eval()
        chunks = [self.quantizer.encode(self._encode(chunk)).cpu() for chunk in embeddings.split(_CHUNK_ITEMS)]
        self.train(training)
        return torch.cat(chunks)

    def configure_optimizers(self) -> Any:
        """AdamW with a linear decay to zero; codebooks without weight decay, which would pull codes together."""
        codebooks = list(self.quantizer.codebooks.parameters())
        networks = [*self.encoder.parameters(), *self.decoder.parameters()]
        groups = [
            {"params": networks, "weight_decay": self.config.weight_decay},
            {"params": codebooks, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """Factor of the learning rate. Asks for the number of steps as late as it can: the Trainer would otherwise set
        its loaders up before it restores their positions, and a resumed run would go on at a wrong batch."""
        return max(0.0, 1 - step / self.trainer.estimated_stepping_batches) if step else 1.0

    def on_train_start(self) -> None:
        """Initialises a fresh module; a resumed one is initialised already."""
        if not self.quantizer.initialised:
            # a generator of its own: the loaders' and layers' random numbers do not depend on it
            self.initialise(self._catalogue(), torch.Generator().manual_seed(torch.initial_seed()))

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        """Measures the codes at the end of an epoch, in time for callbacks that look at them when it ends."""
        last_epoch = self.current_epoch + 1 == self.trainer.max_epochs
        if self.trainer.is_last_batch and (last_epoch or (self.current_epoch + 1) % self.health_every == 0):
            self.log_dict(self._health(), on_step=False, on_epoch=True, batch_size=1)

    def _health(self) -> dict[str, float]:
        codes, sizes = self.assign_codes(self._catalogue()), self.config.sizes
        used, spread = usage(codes, sizes).tolist(), perplexity(codes, sizes).tolist()
        return {
            **{f"codebook/usage_{level}": value for level, value in enumerate(used, start=1)},
            **{f"codebook/perplexity_{level}": value for level, value in enumerate(spread, start=1)},
            "codebook/collision_rate": collision_rate(codes),
            "codebook/largest_collision": float(largest_collision(codes)),
        }

    def _catalogue(self) -> Tensor:
        return self.trainer.datamodule.embeddings  # type: ignore[attr-defined]

    def _standardise(self, embeddings: Tensor) -> Tensor:
        return (embeddings.float() - self.mean) / self.scale

    def _encode(self, embeddings: Tensor) -> Tensor:
        return self.encoder(self._standardise(embeddings.to(self.device)))

    def _encode_chunked(self, embeddings: Tensor) -> Tensor:
        return torch.cat([self._encode(chunk) for chunk in embeddings.split(_CHUNK_ITEMS)])

    def _forget_moments(self, restarted: list[Tensor]) -> None:
        """Clears AdamW's moments of restarted codes: they tell where the dead code was heading."""
        optimizer = self.optimizers()
        for codebook, mask in zip(self.quantizer.codebooks, restarted, strict=True):
            state = optimizer.state.get(codebook, {})  # type: ignore[union-attr]
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state:
                    state[name].masked_fill_(mask[:, None], 0.0)  # no wait for the device
