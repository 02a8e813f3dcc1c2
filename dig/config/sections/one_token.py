"""What goes together with one vector an item (``sft.item_tokens=one``), and the sizes that it takes."""

from __future__ import annotations

from collections.abc import Mapping

from dig.config.errors import nearest
from dig.config.sections.backbone import BackboneConfig, PromptConfig
from dig.config.sections.checks import check
from dig.config.sections.relations import NAMED, RELATION_TASKS
from dig.config.sections.sft import SFTConfig

__all__ = ["ONE_TOKEN_SIZES", "check_one_token", "one_token_sizes"]

ONE_TOKEN_SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 384,
}
"""What of ``backbone.config`` decides the shape, with the values of a backbone from scratch where it is unset."""


def one_token_sizes(config: BackboneConfig) -> dict[str, int]:
    """The sizes of the transformer."""
    return {**ONE_TOKEN_SIZES, **config.config}


def check_one_token(
    backbone: BackboneConfig, prompt: PromptConfig, sft: SFTConfig, shares: Mapping[str, float]
) -> None:
    """Refuses what does not go together.

    Raises:
        UserError: with the key.
    """
    one = "sft.item_tokens=one"
    check(backbone.pretrained is None, f"{one} builds its backbone from scratch; unset backbone.pretrained")
    unknown = [key for key in backbone.config if key not in ONE_TOKEN_SIZES]
    if unknown:
        hint = nearest(unknown[0], ONE_TOKEN_SIZES)
        check(
            False,
            f"{one} reads {', '.join(ONE_TOKEN_SIZES)} of backbone.config, not {unknown[0]}"
            f"{f'; did you mean {hint}?' if hint else ''}",
        )
    sizes = one_token_sizes(backbone)
    for key, value in sizes.items():
        check(isinstance(value, int) and value > 0, f"backbone.config.{key} must be a number above 0, it is {value!r}")
    check(
        sizes["hidden_size"] % sizes["num_attention_heads"] == 0,
        f"backbone.config.hidden_size={sizes['hidden_size']} cannot be cut into "
        f"backbone.config.num_attention_heads={sizes['num_attention_heads']}",
    )
    relations = [name for name in shares if name in RELATION_TASKS]
    check(
        not relations or prompt.max_history > NAMED,
        f"sft.tasks.{relations[0] if relations else ''} under {one} needs room for {NAMED + 1} items, "
        f"prompt.max_history={prompt.max_history} is too short",
    )
    check(prompt.style != "text", f"{one} reads no text; take prompt.style=auto")
    check(not backbone.gradient_checkpointing, f"{one} has no backbone.gradient_checkpointing; leave it out")
    check(sft.label_smoothing == 0.0, f"{one} has no sft.label_smoothing; leave it out")
    check(sft.new_rows_steps == 0, f"{one} has no new rows to train first; leave sft.new_rows_steps out")
