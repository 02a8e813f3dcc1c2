"""A whole experiment from Python: change keys, run, read the numbers, write a list for every customer.

``python examples/python_first.py [key=value …]``; keys are those of ``dig.train``.
"""

from __future__ import annotations

import sys

import polars as pl

from dig import Recommender, load_config, run_experiment


def main(overrides: list[str]) -> None:
    """Runs the quickstart with some keys changed."""
    config = load_config("quickstart", overrides)  # typed: config.sft.epochs is an int, and a wrong key is refused
    run = run_experiment(config)

    for recommender, numbers in run.metrics.items():  # what metrics.json holds
        low, high = numbers["intervals"]["test"]["ndcg@10"]
        print(f"{recommender:12} NDCG@10 {numbers['test']['ndcg@10']:.4f} (95 %: {low:.4f} to {high:.4f})")

    # Tables of a run are parquet files, so that whatever is not in the report takes a few lines.
    ranked = pl.read_parquet(run.path / "recommendations.parquet").filter(pl.col("stage") == "sft")
    first = ranked.select(pl.col("items").list.first().alias("item_id")).group_by("item_id").len("customers")
    titles = pl.read_parquet(run.path / "items.parquet").select("item_id", "title")
    favourites = first.join(titles, on="item_id").sort("customers", "item_id", descending=[True, False])
    print("most often in the first place:", favourites.head(3).select("title", "customers").rows())

    histories = {"anna": ["I0001", "I0002"], "ben": ["I0003"]}
    items, _ = Recommender.from_run(run.path).recommend(list(histories.values()), k=5, unseen=True)
    for customer, listed in zip(histories, items, strict=True):
        print(f"for {customer}: {', '.join(listed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
