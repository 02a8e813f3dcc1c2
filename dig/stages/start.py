"""What can be known to fail before anything is computed: the machine, the Trainer, the backbone and its memory."""

from __future__ import annotations

from collections.abc import Collection

import torch

from dig.config import Config, UserError
from dig.engine.console import warn
from dig.engine.machine import accelerator_here, available_memory, check_machine, devices_here, gigabytes, total_memory
from dig.engine.ranks import launched
from dig.engine.strategy import check_trainer
from dig.generation.dry_build import count_parameters
from dig.pretrained import check_model

__all__ = ["check_backbone", "check_start", "training_bytes"]

_WIDTHS = {"bf16-true": 2, "16-true": 2, "64-true": 8}
"""Bytes of a weight by precision, where it is not four."""
_SUFFIX = 2
"""Codes of the suffix's level at least; how many there are is known once items have collided."""


def check_start(config: Config) -> None:
    """Compares what the trainer asks for with the machine, and asks Lightning whether it takes it.

    Raises:
        UserError: with exit code 2.
    """
    check_machine(config)
    check_trainer(config.trainer)


def check_backbone(config: Config, stages: Collection[str], network: bool = True) -> None:
    """Builds the backbone without memory, and compares what its training takes at least with what there is.

    Args:
        config: the experiment.
        stages: those that are still to be built; without ``sft`` there is nothing to look at.
        network: whether a hub may be asked for a pretrained one.

    Raises:
        UserError: a pretrained one cannot be had; with exit code 2: it cannot be built, or no memory here holds it.
    """
    if "sft" not in stages or config.items.representation == "one":
        return
    if name := config.backbone.pretrained:
        check_model(name, f"backbone.pretrained={name}", network=network)
    levels = [*config.rqvae.sizes, _SUFFIX]
    parameters = count_parameters(config.backbone, levels, (config.prompt.max_history + 1) * len(levels))
    if parameters is None or launched():  # what ranks take together is the launcher's to judge
        return
    each, ranks = training_bytes(config, parameters), devices_here(config.trainer)
    if accelerator_here(config.trainer) == "cuda":
        memories = [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
        _compare(config, parameters, each, min(memories), None, "the smallest GPU has")
    else:
        total = total_memory()
        if total is not None:
            _compare(config, parameters, each * ranks, total, available_memory(), "this machine has")


def training_bytes(config: Config, parameters: int) -> int:
    """Bytes that training a backbone of this many parameters takes at least on each rank, activations left out.

    Weights, gradients and AdamW's two moments; under LoRA the frozen weights. FSDP shares them out over all ranks.
    """
    width = _WIDTHS.get(config.trainer.precision, 4)
    frozen = config.backbone.pretrained is not None and config.backbone.lora.enabled
    whole = parameters * width * (1 if frozen else 4)
    ranks = devices_here(config.trainer) * config.trainer.num_nodes
    return whole // ranks if config.trainer.strategy == "fsdp" else whole


def _compare(config: Config, parameters: int, needed: int, total: int, free: int | None, who: str) -> None:
    said = (
        f"the backbone has {parameters / 1e6:,.1f} M parameters, and training it takes at least {gigabytes(needed)} of "
        f"memory (weights, gradients, AdamW; trainer.precision={config.trainer.precision})"
    )
    if needed > total:
        raise UserError(
            f"{said}, {who} {gigabytes(total)}; make backbone.config smaller, take trainer.precision="
            "bf16-true, share it out by trainer.strategy=fsdp, or train a pretrained one with "
            "backbone.lora",
            exit_code=2,
        )
    if free is not None and needed > free:
        warn(f"{said}, and {gigabytes(free)} are available now")
