"""The publishers' addresses are complete, and mirrors come first."""

from __future__ import annotations

import pytest

from datamodules.download import PUBLISHED, published_files
from dig.config import UserError, list_experiments, load_config


def test_every_data_set_has_reviews_and_metadata():
    assert len(PUBLISHED) == 9
    for name in PUBLISHED:
        release, category = name.split("/")
        files = published_files(name)
        names = [file.name for file in files]
        assert sum(each.startswith("meta_") for each in names) == 1 and all(category in each for each in names)
        assert len(names) == (4 if release == "amazon2023-split" else 2)
        for file in files:
            assert file.urls and all(url.startswith("https://") and url.endswith(f"/{file.name}") for url in file.urls)


def test_addresses_as_documented():
    assert published_files("amazon2014/Beauty")[0].urls == (
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_Beauty_5.json.gz",
    )
    reviews, items = published_files("amazon2018/Musical_Instruments")
    assert "https://jmcauley.ucsd.edu/data/amazon_v2/categoryFilesSmall/Musical_Instruments_5.json.gz" in reviews.urls
    assert items.urls[0] == (
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/metaFiles2/meta_Musical_Instruments.json.gz"
    )
    ratings = published_files("amazon2023/Industrial_and_Scientific")[0]
    assert ratings.urls[0] == (
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/5core/rating_only/"
        "Industrial_and_Scientific.csv.gz"
    )


def test_mirrors_come_first():
    file = published_files("amazon2014/Beauty", ["http://near/data/"])[1]
    assert file.urls[0] == "http://near/data/meta_Beauty.json.gz" and len(file.urls) == 2


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(UserError, match=r"data.published='amazon2014/Beaty' is not known; did you mean amazon2014/Bea"):
        published_files("amazon2014/Beaty")


def test_experiments_name_data_sets_that_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_DATA_ROOT", "/nowhere")
    named = {name: load_config(name).data.published for name in list_experiments()}
    assert {"beauty", "sports", "toys", "instruments", "industrial_2018"} <= {n for n, key in named.items() if key}
    assert {key for key in named.values() if key} <= set(PUBLISHED)
