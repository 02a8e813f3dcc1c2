"""Your own shop, as README says: two tables, a YAML file that extends `own`, a split by time, up to the metrics."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import polars as pl
import pytest
import yaml
from support.workplace import Workplace

from dig.data import main as data
from dig.interests.__main__ import main as interests

DAY = 86_400
START = 1_388_534_400  # 2014-01-01
SMALL = {
    "rqvae": {"codebook_size": 8, "levels": 2, "batch_size": 16, "epochs": 4, "hidden_dims": [32], "latent_dim": 8},
    "backbone": {
        "config": {
            "num_hidden_layers": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
        }
    },
    "sft": {"batch_size": 16, "epochs": 1, "max_steps": 6},
    "grpo": {"max_steps": 2, "validate_every": 1, "group_size": 4, "prompts_per_step": 8},
    "evaluation": {"num_beams": 10, "valid_beams": 10, "ks": [5, 10]},
    "trainer": {"accelerator": "cpu"},
    "logging": {"progress": False},
}


def shop(folder: Path) -> None:
    """Forty customers over a hundred days, forty films with lists of genres and prices as people write them."""
    draw = random.Random(1)  # noqa: S311 - a shop, not a secret
    genres = ["Animation", "Children's", "Comedy", "Drama", "Crime"]
    with (folder / "films.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["movie", "title", "genres", "year", "preis"])
        for film in range(40):
            some = ", ".join(draw.sample(genres, draw.choice([1, 2, 3])))
            writer.writerow(
                [
                    film,
                    f"A film of {draw.choice(['sea', 'hill', 'town'])} and wind, part {film}",
                    some,
                    1980 + film % 9,
                    f"1.{film:03d},50 €",
                ]
            )
    with (folder / "sales.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["customer", "film", "when", "stars"])
        for customer in range(40):
            for day in sorted(draw.sample(range(100), 8)):
                writer.writerow([f"C{customer}", draw.randrange(40), START + day * DAY + draw.randrange(DAY), 5])


def test_newcomers_1_your_own_shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The newcomers' first, and entry 21: no environment variable, no renamed file; cut at fixed moments."""
    monkeypatch.delenv("DIG_DATA_ROOT", raising=False)
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shop(tmp_path)
    assert data(["init", "sales.csv", "films.csv"]) == 0
    content = {
        "extends": "shop",
        **SMALL,
        "data": {"split": "global-time", "split_times": ["2014-03-01", "2014-03-20"], "text_columns": ["year"]},
    }
    Path("mine.yaml").write_text(yaml.safe_dump(content))
    assert data(["validate", "mine.yaml"]) == 0
    assert data(["inspect", "mine.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "0 errors" in shown and "global-time" in shown and "split at ','" in shown
    workplace = Workplace(tmp_path, settings=("experiment=mine.yaml",))
    assert "test · global-time" in workplace.run()
    run = tmp_path / "runs" / "mine" / "latest"
    metrics = json.loads((run / "metrics.json").read_text())
    times = pl.read_csv("sales.csv").sort("customer", "when", maintain_order=True)
    later = times.filter(pl.int_range(pl.len()).over("customer") > 0).filter(pl.col("when") >= START + 78 * DAY)
    for found in metrics.values():
        assert found["split"] == "global-time" and found["examples"] == len(later)
        assert found["users"] == later["customer"].n_unique() != found["examples"]  # several tests a user, or none
    frame = pl.read_parquet(run / "recommendations.parquet").filter(pl.col("stage") == "sft")
    assert len(frame) == len(later) and sorted(frame["target"]) == sorted(map(str, later["film"]))
    (items,) = (tmp_path / "home" / "artifacts" / "prepare").glob("*/items.parquet")
    catalogue = pl.read_parquet(items)
    assert set(catalogue["categories"].explode()) == {"Animation", "Children's", "Comedy", "Drama", "Crime"}
    assert catalogue["price"].to_list() == [1000.5 + film for film in range(40)]
    assert catalogue["description"].to_list() == [f"year: {1980 + film % 9}" for film in range(40)]
    assert interests(["show", "experiment=mine.yaml", "7"]) == 0
    assert "part 7" in capsys.readouterr().out
