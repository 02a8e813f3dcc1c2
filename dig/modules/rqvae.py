"""RQVAEModule: the residual-quantised autoencoder that turns item vectors into Semantic IDs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import torch
from lightning import LightningModule
from torch import Tensor, nn

from dig.config.schema import RQVAEConfig
from dig.evaluation.codebook import collision_rate, dead_codes, largest_collision, perplexity, usage
from dig.modules.restoring import MODULE, check_weights, read_checkpoint, rebuild_settings, told_by
from dig.quantization import ItemFeatures, QuantizerOutput, ResidualQuantizer, mlp
from dig.quantization.features import ItemFusion
from dig.quantization.losses import cluster_codes, diversity, info_nce
from dig.quantization.residual import sum_over_ranks

if TYPE_CHECKING:
    from datamodules.items import ItemBatch

__all__ = ["RQVAEModule"]

_INITIAL_ITEMS = 32_768
"""The k-means initialisation looks at this many random items at most."""
_CHUNK_ITEMS = 8192
"""Items encoded at a time when the whole catalogue is assigned."""


class RQVAEModule(LightningModule):
    """RQ-VAE over standardised item vectors (TIGER, arXiv 2305.05065), with the fusion of text and pictures before it.

    Before the first step of a fresh fit, the statistics of `trainer.datamodule.features` are taken and the codebooks
    are set by k-means on the encoder's output; a resumed fit finds both in its checkpoint.

    Args:
        config: sizes and training settings.
        text_dim: width of the text vectors, 0 for none.
        image_dim: width of the picture vectors, 0 for none.
        behaviour_dim: width of the collaborative vectors, 0 for none.
        health_every: epochs between two measurements of the catalogue's codes; the last epoch always measures.
    """

    def __init__(
        self, config: RQVAEConfig, text_dim: int, image_dim: int = 0, behaviour_dim: int = 0, health_every: int = 5
    ) -> None:
        super().__init__()
        self.config = config
        self.health_every = health_every
        self._widths = {"text_dim": text_dim, "image_dim": image_dim, "behaviour_dim": behaviour_dim}
        self.fusion = ItemFusion(text_dim, image_dim, config.visual_dim, config.image_weight)
        widths = [self.fusion.width, *config.hidden_dims, config.latent_dim]
        self.encoder = mlp(widths)
        self.decoder = mlp([*widths[:0:-1], text_dim + image_dim])
        self.to_contrast = (
            nn.Linear(config.latent_dim, config.info_nce_dim, bias=False) if config.info_nce_weight else None
        )
        self.to_behaviour = nn.Linear(config.latent_dim, behaviour_dim) if behaviour_dim else None
        self.quantizer = ResidualQuantizer(
            config.sizes,
            config.latent_dim,
            commitment_weight=config.commitment_weight,
            restart_after=config.restart_after,
            kmeans_iterations=config.kmeans_iterations,
            update=config.codebook_update,
            ema_decay=config.ema_decay,
            estimator=config.estimator,
            sinkhorn_levels=config.sinkhorn_levels,
            sinkhorn_epsilon=config.sinkhorn_epsilon,
        )
        self.clusters: Tensor
        self.register_buffer("clusters", torch.zeros(sum(config.sizes), dtype=torch.int64))  # for the diversity term
        self._used = torch.zeros(sum(config.sizes), dtype=torch.bool)  # in this epoch's batches

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **named: Any,
    ) -> Self:
        """Lightning's: the path alone suffices, as a checkpoint tells how its module was made.

        Args:
            checkpoint_path: a checkpoint.
            map_location: as of ``torch.load``.
            hparams_file: as of Lightning; nothing here reads it.
            strict: whether all weights have to fit.
            weights_only: nothing is ever unpickled, so False is the same as True.
            named: arguments of the constructor that replace those of the checkpoint.

        Raises:
            UserError: it is not such a checkpoint; or it was written before checkpoints told how their module was
                made, and then the arguments of the constructor that are missing are named.
        """
        if not {"config", "text_dim"} <= set(named):
            remedy = f"pass config= and text_dim= (also image_dim=, behaviour_dim=) to {cls.__name__}."
            making, state = read_checkpoint(checkpoint_path, "tokenize", f"{remedy}load_from_checkpoint")
            where = str(checkpoint_path)
            with told_by(where), torch.device("meta"):
                arguments = {**making["widths"], "config": rebuild_settings(RQVAEConfig, making["config"], where)}
                named = {**arguments, "health_every": making["health_every"], **named}
                check_weights(RQVAEModule(**named), state, where)
        loaded: Self = super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only=True, **named
        )
        return loaded

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds how the module is made, for :meth:`load_from_checkpoint`."""
        widths, every = dict(self._widths), self.health_every
        checkpoint[MODULE] = {
            "stage": "tokenize",
            "config": asdict(self.config),
            "widths": widths,
            "health_every": every,
        }

    @torch.no_grad()
    def initialise(self, features: ItemFeatures, generator: torch.Generator | None = None) -> None:
        """Takes the catalogue's statistics and sets the codebooks by k-means on the encoder's output.

        Args:
            features: the catalogue.
            generator: source of randomness, a CPU generator; None takes torch's global one.
        """
        self.fusion.fit(features)
        if features.items > _INITIAL_ITEMS:
            features = features.take(torch.randperm(features.items, generator=generator)[:_INITIAL_ITEMS])
        latents = torch.cat([self._encode(chunk) for chunk in features.chunks(_CHUNK_ITEMS)])
        self.quantizer.initialise(latents, generator)

    def forward(self, features: ItemFeatures) -> tuple[Tensor, Tensor, QuantizerOutput]:
        """Standardised inputs ``(batch, text_dim + image_dim)``, their reconstruction, and the quantizer's output."""
        standard = self.fusion.standardise(features)
        output = self.quantizer(self.encoder(self.fusion(standard)))
        return standard, self.decoder(output.quantized), output

    def training_step(self, batch: ItemBatch, batch_idx: int) -> Tensor:
        """Reconstruction error plus the quantizer's loss, and the optional terms with their weights."""
        features = batch.features
        standard = self.fusion.standardise(features)
        latents = self.encoder(self.fusion(standard))
        output = self.quantizer(latents)
        terms = {
            "reconstruction": self.fusion.error(self.decoder(output.quantized), standard, features.has_image),
            "quantizer": output.loss,
        }
        if self.to_contrast is not None and batch.partners is not None:
            ours, theirs = self.to_contrast(latents), self.to_contrast(self._encode(batch.partners))
            contrast = info_nce(ours, theirs, self.config.temperature, batch.has_partner)
            terms["info_nce"] = self.config.info_nce_weight * contrast
        if self.to_behaviour is not None and features.behaviour is not None:
            has_behaviour = features.behaviour.any(dim=1)
            contrast = info_nce(
                self.to_behaviour(output.quantized), features.behaviour, self.config.temperature, has_behaviour
            )
            terms["collaborative"] = self.config.collaborative_weight * contrast
        if self.config.diversity_weight:
            terms["diversity"] = self.config.diversity_weight * self._diversity(output.codes)
        loss = torch.stack(list(terms.values())).sum()
        self._forget_moments(output.restarted)
        self._note_use(output.codes)
        if self._logs_this_step():
            logged = {"loss": loss, **terms}
            size = len(output.codes)
            self.log_dict({f"train/{name}": value.detach() for name, value in logged.items()}, batch_size=size)
        return loss

    @torch.no_grad()
    def assign_codes(self, features: ItemFeatures) -> Tensor:
        """Codes ``(items, levels)`` int64 of items, on the CPU."""
        training = self.training
        self.eval()
        chunks = [self.quantizer.encode(self._encode(chunk)).cpu() for chunk in features.chunks(_CHUNK_ITEMS)]
        self.train(training)
        return torch.cat(chunks)

    @torch.no_grad()
    def last_level_distances(self, features: ItemFeatures, codes: Tensor) -> Tensor:
        """``(items, codes of the last level)``: what each last code would cost items with the codes before it."""
        return self.quantizer.last_level_distances(self._encode(features), codes.to(self.device)).cpu()

    @torch.no_grad()
    def reconstruction_error(self, features: ItemFeatures, codes: Tensor | None = None) -> float:
        """Mean squared error of the standardised inputs from their codes: 0 is perfect, about 1 says nothing.

        Args:
            features: items.
            codes: ``(items, levels)``; None takes those that `assign_codes` gives.
        """
        codes = self.assign_codes(features) if codes is None else codes
        total = 0.0
        for chunk, rows in zip(features.chunks(_CHUNK_ITEMS), codes.split(_CHUNK_ITEMS), strict=True):
            decoded = self.decoder(self.quantizer.decode(rows.to(self.device)))
            standard = self.fusion.standardise(chunk)
            total += float(self.fusion.error(decoded, standard, chunk.has_image)) * chunk.items
        return total / features.items

    def configure_optimizers(self) -> Any:
        """AdamW with a warm-up and a linear decay to zero; codebooks without weight decay, which would pull codes
        together."""
        codebooks = [codebook for codebook in self.quantizer.codebooks if codebook.requires_grad]
        codebook_ids = {id(parameter) for parameter in self.quantizer.codebooks}
        networks = [parameter for parameter in self.parameters() if id(parameter) not in codebook_ids]
        groups: list[dict[str, Any]] = [{"params": networks, "weight_decay": self.config.weight_decay}]
        if codebooks:
            groups.append({"params": codebooks, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """Factor of the learning rate; the warm-up takes a tenth of the steps at most. Asks for their number as late as
        it can: the Trainer would otherwise set its loaders up before it restores their positions, and a resumed run
        would continue at a wrong batch."""
        if step == 0:
            return 1 / self.config.warmup_steps
        total = float(self.trainer.estimated_stepping_batches)
        warm_up = max(1.0, min(self.config.warmup_steps, total / 10))
        return min(1.0, (step + 1) / warm_up) * max(0.0, 1 - step / total)

    def on_train_start(self) -> None:
        """Initialises a fresh module; a resumed one is initialised already."""
        if not self.quantizer.initialised:
            # a generator of its own: the loaders' and layers' random numbers do not depend on it
            self.initialise(self._catalogue(), torch.Generator().manual_seed(torch.initial_seed()))

    def on_train_epoch_start(self) -> None:
        """Groups the codes for the diversity term; within a resumed epoch the groups come from the checkpoint."""
        self._used.zero_()
        loop = self.trainer.fit_loop.epoch_loop
        if self.config.diversity_weight and loop.batch_progress.current.completed == 0:
            generator = torch.Generator().manual_seed(self.current_epoch)
            clusters = [
                cluster_codes(codebook, self.config.diversity_clusters, generator)
                for codebook in self.quantizer.codebooks
            ]
            self.clusters.copy_(torch.cat(clusters))

    def on_train_batch_end(self, outputs: Any, batch: ItemBatch, batch_idx: int) -> None:
        """Measures the codes at the end of an epoch, in time for callbacks that look at them when it ends."""
        if not self.trainer.is_last_batch:
            return
        self.log_dict(self._use(), on_step=False, on_epoch=True, batch_size=1)
        last_epoch = self.current_epoch + 1 == self.trainer.max_epochs
        if last_epoch or (self.current_epoch + 1) % self.health_every == 0:
            self.log_dict(self._health(), on_step=False, on_epoch=True, batch_size=1)

    def _use(self) -> dict[str, float]:
        """Share of each level's codes that this epoch's batches used: known in every epoch and at no cost."""
        used = sum_over_ranks(self._used.to(self.device, torch.int64)) > 0
        shares = [level.double().mean() for level in used.split(self.config.sizes)]
        return {f"codebook/batch_usage_{level}": float(share) for level, share in enumerate(shares, start=1)}

    def _health(self) -> dict[str, float]:
        catalogue = self._catalogue()
        codes, sizes = self.assign_codes(catalogue), self.config.sizes
        measures = {"usage": usage, "perplexity": perplexity, "dead_codes": dead_codes}
        return {
            **{
                f"codebook/{name}_{level}": float(value)
                for name, measure in measures.items()
                for level, value in enumerate(measure(codes, sizes), start=1)
            },
            "codebook/collision_rate": collision_rate(codes),
            "codebook/largest_collision": float(largest_collision(codes)),
            "codebook/reconstruction": self.reconstruction_error(catalogue, codes),
        }

    def _catalogue(self) -> ItemFeatures:
        return self.trainer.datamodule.features  # type: ignore[attr-defined]

    def _encode(self, features: ItemFeatures) -> Tensor:
        return self.encoder(self.fusion(self.fusion.standardise(features)))

    def _diversity(self, codes: Tensor) -> Tensor:
        levels = zip(self.quantizer.codebooks, codes.unbind(dim=1), self.clusters.split(self.config.sizes), strict=True)
        losses = [
            diversity(codebook, chosen, clusters, torch.rand(len(chosen), device=codes.device))
            for codebook, chosen, clusters in levels
        ]
        return torch.stack(losses).mean()

    def _logs_this_step(self) -> bool:
        """Whether Lightning will write this step's values; handing it others takes as long as the step itself."""
        return (self.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]

    def _note_use(self, codes: Tensor) -> None:
        self._used = self._used.to(codes.device)
        start = 0
        for size, chosen in zip(self.config.sizes, codes.unbind(dim=1), strict=True):
            self._used[chosen + start] = True
            start += size

    def _forget_moments(self, restarted: list[Tensor]) -> None:
        """Clears AdamW's moments of restarted codes: they tell where the dead code was heading."""
        optimizer = self.optimizers()
        for codebook, mask in zip(self.quantizer.codebooks, restarted, strict=True):
            state = optimizer.state.get(codebook, {})  # type: ignore[union-attr]
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state:
                    state[name].masked_fill_(mask[:, None], 0.0)  # no wait for the device
