"""The quickstart shop plants what it says: interests that titles hide and descriptions, pictures and baskets show."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline

from datamodules.sources.quickstart import write_shop
from datamodules.sources.shop_contents import INTERESTS, LOOKS, encode_png
from datamodules.sources.shop_products import BRANDS, PRODUCT_TYPES

ROOT = Path(__file__).resolve().parents[3]
ITEMS, USERS = 600, 1200


@dataclass(frozen=True)
class Shop:
    """A written shop, read back from its files alone."""

    folder: Path
    items: dict[str, dict]
    log: list[tuple[str, str, int]]
    histories: dict[str, list[str]]
    item_interests: dict[str, list[str]]
    phrases: dict[str, list[str]]
    user_interests: dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, items=ITEMS, users=USERS)
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    with (folder / "interactions.csv").open(newline="", encoding="utf-8") as lines:
        log = [(row["user_id"], row["item_id"], int(row["timestamp"])) for row in csv.DictReader(lines)]
    histories: dict[str, list[str]] = defaultdict(list)
    for user, item, _ in log:
        histories[user].append(item)
    truth = {path.stem: json.loads(path.read_text("utf-8")) for path in (folder / "truth").iterdir()}
    assert set(truth) == {"item_interests", "interest_phrases", "user_interests"}
    return Shop(
        folder=folder,
        items={row["item_id"]: row for row in rows},
        log=log,
        histories=dict(histories),
        item_interests=truth["item_interests"],
        phrases=truth["interest_phrases"],
        user_interests=truth["user_interests"],
    )


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- files


def test_same_seed_writes_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    write_shop(tmp_path / "here", items=60, users=40, seed=3)
    code = "import sys, pathlib; from datamodules.sources.quickstart import write_shop; "
    code += "write_shop(pathlib.Path(sys.argv[1]), items=60, users=40, seed=3)"
    environment = os.environ | {"PYTHONHASHSEED": "123", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, env=environment, cwd=ROOT)
    here = fingerprint(tmp_path / "here")
    assert here == fingerprint(tmp_path / "there")
    assert len(here) == 60 + 5


def test_another_seed_writes_another_shop(tmp_path: Path) -> None:
    write_shop(tmp_path / "a", items=60, users=40, seed=3)
    write_shop(tmp_path / "b", items=60, users=40, seed=4)
    a, b = fingerprint(tmp_path / "a"), fingerprint(tmp_path / "b")
    same = {name for name in a if a[name] == b[name]}
    assert a.keys() == b.keys()
    assert same == {"truth/interest_phrases.json"}


def test_customers_do_not_change_the_catalogue(tmp_path: Path) -> None:
    write_shop(tmp_path / "few", items=60, users=10)
    write_shop(tmp_path / "more", items=60, users=20)
    few, more = fingerprint(tmp_path / "few"), fingerprint(tmp_path / "more")
    assert {name for name in few if few[name] != more[name]} == {"interactions.csv", "truth/user_interests.json"}


def test_too_small_a_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 50 items, not 49"):
        write_shop(tmp_path / "shop", items=49)
    assert not (tmp_path / "shop").exists()


def test_picture_shows_its_palette(tmp_path: Path) -> None:
    palette = [(1, 2, 3), (40, 50, 60), (255, 254, 253)]
    pixels = np.random.default_rng(0).integers(0, 3, size=(5, 9)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(encode_png(pixels, palette))
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.array(palette)[pixels])


def test_sizes_and_references(shop: Shop) -> None:
    assert len(shop.items) == ITEMS == len(shop.item_interests)
    assert len(shop.histories) == USERS == len(shop.user_interests)
    assert {item for _, item, _ in shop.log} <= shop.items.keys()
    assert len({row["title"] for row in shop.items.values()}) == ITEMS
    for item_id, row in shop.items.items():
        assert list(row) == ["item_id", "title", "brand", "categories", "description", "price", "image"]
        assert row["image"] == f"images/{item_id}.png"
        assert row["price"] > 0
        assert len(row["categories"]) == 1
        assert all(isinstance(part, str) for part in row["categories"][0])
    assert len(list((shop.folder / "images").iterdir())) == ITEMS


def test_vocabulary_is_consistent() -> None:
    names = {product.name for product in PRODUCT_TYPES}
    assert len(names) == len(PRODUCT_TYPES)
    assert all(set(product.followers) <= names - {product.name} for product in PRODUCT_TYPES)
    assert {product.path[0] for product in PRODUCT_TYPES} == set(BRANDS)
    assert len(INTERESTS) == 12
    assert [interest.name for interest in INTERESTS] == list(LOOKS)


# --- what the items show


def test_titles_brands_and_categories_never_hint_at_an_interest(shop: Shop) -> None:
    shown = {" ".join([row["title"], row["brand"], *row["categories"][0]]).lower() for row in shop.items.values()}
    said = [*shop.phrases, *(phrase for phrases in shop.phrases.values() for phrase in phrases)]
    assert not [(phrase, text) for phrase in said for text in shown if phrase.lower() in text]
    name_words = {word for name in shop.phrases for word in re.findall(r"\w+", name)} - {"on", "to"}
    assert not name_words & {word for text in shown for word in re.findall(r"\w+", text)}


def test_descriptions_show_exactly_the_planted_interests(shop: Shop) -> None:
    used: dict[str, set[str]] = defaultdict(set)
    for item_id, row in shop.items.items():
        found = {
            name: hits
            for name, phrases in shop.phrases.items()
            if (hits := [p for p in phrases if p in row["description"]])
        }
        assert set(found) == set(shop.item_interests[item_id])
        for name, hits in found.items():
            used[name].update(hits)
    assert used == {name: set(phrases) for name, phrases in shop.phrases.items()}
    assert {len(interests) for interests in shop.item_interests.values()} == {1, 2, 3}


def test_interests_cut_across_the_departments(shop: Shop) -> None:
    seen = {
        (name, shop.items[item]["categories"][0][0]) for item, names in shop.item_interests.items() for name in names
    }
    assert len(seen) == len(shop.phrases) * len(BRANDS)


def test_descriptions_tell_the_main_interest_and_titles_do_not(shop: Shop) -> None:
    labels = [shop.item_interests[item][0] for item in shop.items]

    def accuracy(field: str) -> float:
        probe = make_pipeline(CountVectorizer(), LogisticRegression())
        return float(cross_val_score(probe, [row[field] for row in shop.items.values()], labels, cv=3).mean())

    majority = max(Counter(labels).values()) / len(labels)  # 1/12
    assert accuracy("title") < majority + 0.05
    assert accuracy("description") > majority + 0.6


def test_pictures_tell_the_main_interest(shop: Shop) -> None:
    labels = [shop.item_interests[item][0] for item in shop.items]
    small = []
    for row in shop.items.values():
        with Image.open(shop.folder / row["image"]) as picture:
            assert picture.size == (64, 64)
            small.append(np.asarray(picture.convert("RGB").reduce(8), dtype=np.float64).ravel())
    scores = cross_val_score(NearestCentroid(), np.stack(small), labels, cv=3)
    assert scores.mean() > 0.9


def test_pictures_show_every_interest_as_an_emblem(shop: Shop) -> None:
    for item_id, names in shop.item_interests.items():
        with Image.open(shop.folder / shop.items[item_id]["image"]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        for column, name in zip((11, 32, 53), names, strict=False):
            window = pixels[47:62, column - 7 : column + 8].reshape(-1, 3)
            assert (window == LOOKS[name].ink).all(axis=1).sum() >= 20, (item_id, name)


# --- what the customers do


def test_histories_are_long_enough_and_never_repeat(shop: Shop) -> None:
    lengths = [len(history) for history in shop.histories.values()]
    assert min(lengths) == 5
    assert max(lengths) <= 25
    assert 8.5 < np.mean(lengths) < 10.5
    assert all(len(set(history)) == len(history) for history in shop.histories.values())


def test_log_is_in_order_of_time_with_some_ties(shop: Shop) -> None:
    times: dict[str, list[int]] = defaultdict(list)
    for user, _, time in shop.log:
        times[user].append(time)
    gaps = np.concatenate([np.diff(own) for own in times.values()])
    assert [time for *_, time in shop.log] == sorted(time for *_, time in shop.log)
    assert 0.05 < (gaps == 0).mean() < 0.2
    assert np.median(gaps) > 86_400


def test_popularity_is_skewed(shop: Shop) -> None:
    counts = np.sort([Counter(item for _, item, _ in shop.log)[item] for item in shop.items])[::-1]
    tenth = len(counts) // 10
    assert counts[:tenth].sum() > 0.25 * counts.sum()
    assert counts[:tenth].sum() > 5 * counts[-tenth:].sum()


def test_interests_of_customers_drift_one_at_a_time(shop: Shop) -> None:
    for periods in shop.user_interests.values():
        assert all(1 <= len(period) == len(set(period)) == len(periods[0]) <= 3 for period in periods)
        assert all(len(set(after) - set(before)) == 1 for before, after in pairwise(periods))
    drifting = [user for user, periods in shop.user_interests.items() if len(periods) > 1]
    assert len(drifting) > USERS / 4


# --- how predictable the next purchase is


def hit_rate(histories: Sequence[list[str]], scorer: Callable[[list[str]], np.ndarray], rows: dict[str, int]) -> float:
    """HR@10 of the last purchase, ranked over all items but the history."""
    hits = 0
    for history in histories:
        scores = scorer(history[:-1]).astype(np.float64)
        scores[[rows[item] for item in history[:-1]]] = -np.inf
        hits += rows[history[-1]] in np.argsort(-scores, kind="stable")[:10]
    return hits / len(histories)


def test_recent_interests_and_type_habits_predict_far_better_than_popularity(shop: Shop) -> None:
    rows = {item: row for row, item in enumerate(shop.items)}
    types = {name: position for position, name in enumerate(sorted(product.name for product in PRODUCT_TYPES))}
    kind = np.array(
        [types[row["title"].removeprefix(row["brand"]).split(",")[0].strip()] for row in shop.items.values()]
    )
    holds = np.array([[name in shop.item_interests[item] for name in shop.phrases] for item in shop.items], dtype=float)
    popularity = np.ones(len(rows))
    habits = np.ones((len(types), len(types)))
    for history in shop.histories.values():
        train = [rows[item] for item in history[:-2]]
        popularity[train] += 1
        np.add.at(habits, (kind[train[:-1]], kind[train[1:]]), 1)
    habits /= habits.sum(axis=1, keepdims=True)

    of_type = np.bincount(kind, weights=popularity)

    def by_habit(history: list[str]) -> np.ndarray:
        return popularity * (habits[kind[rows[history[-1]]]] / of_type)[kind]

    def by_both(history: list[str]) -> np.ndarray:
        recent = [rows[item] for item in history[-6:]]
        fading = 0.8 ** np.arange(len(recent))[::-1]
        return by_habit(history) * (0.15 + holds @ (fading @ holds[recent]) ** 3)

    histories = list(shop.histories.values())
    popular, habit, both = (hit_rate(histories, score, rows) for score in (lambda _: popularity, by_habit, by_both))
    print(f"HR@10: popularity {popular:.4f}, type habit {habit:.4f}, with interests {both:.4f}")
    assert 0.03 < popular < 0.09
    assert both > 2 * popular
    assert both > 1.4 * habit  # what titles can tell is not enough
    assert 0.15 < both < 0.4
