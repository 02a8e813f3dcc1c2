"""The quality q of an item: how much of what was mined for it is good, weighted by the miner's confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

__all__ = ["item_quality"]


def item_quality(interests: pl.DataFrame, item_ids: Sequence[str]) -> np.ndarray:
    """``q_i = Σ_j c_ij·y_ij / Σ_j c_ij`` (DeepInterestGR, arXiv 2602.18907: the interest-aware reward).

    ``y`` is the label and ``c`` the confidence of interest j of item i; where a miner gives no confidence, c = 1.

    Args:
        interests: labelled interests (:data:`~dig.interests.interest.INTEREST_SCHEMA`); items that are not asked for
            are ignored.
        item_ids: the catalogue, in order.

    Returns:
        float32 ``(items,)`` in [0, 1]; 0 for an item without interests, and for one whose confidences are all 0.

    Raises:
        ValueError: if an interest has no label.
    """
    if interests["label"].null_count():
        raise ValueError(f"{interests['label'].null_count()} interests have no label; run the label stage first")
    weight = pl.col("confidence").fill_null(1.0)
    sums = interests.group_by("item_id").agg(
        (weight * pl.col("label")).sum().alias("good"), weight.sum().alias("weight")
    )
    catalogue = pl.DataFrame({"item_id": list(item_ids)}, schema={"item_id": pl.String})
    quality = catalogue.join(sums, on="item_id", how="left", maintain_order="left").select(
        pl.when(pl.col("weight") > 0)
        .then((pl.col("good") / pl.col("weight")).clip(0.0, 1.0))
        .otherwise(0.0)
        .alias("quality")
    )
    return quality["quality"].cast(pl.Float32).to_numpy()
