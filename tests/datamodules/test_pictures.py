"""Where pictures lie: relative paths, fetched ones, absent ones, and folders that moved."""

import json
from pathlib import Path

import polars as pl
import pytest
from support import shop_clip

from datamodules.fetching import folder_fingerprint, item_pictures
from dig.config import UserError


def catalogue(images: list[str | None]) -> pl.DataFrame:
    ids = [f"item{row}" for row in range(len(images))]
    return pl.DataFrame({"item_id": ids, "image": images}, schema={"item_id": pl.String, "image": pl.String})


def test_pictures_are_found_and_absences_counted(tmp_path: Path):
    shop_clip.write_pictures(tmp_path / "images", 2)
    fetched = tmp_path / "pictures"
    shop_clip.write_pictures(fetched, 1)
    address = "https://shop.example/4.png"
    line = {"item_id": "item4", "url": address, "file": "0.png", "reason": None}
    (fetched / "pictures.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path.parent / "outside.png").write_bytes(b"x")
    images = [
        "images/0.png",
        None,
        "images/1.png",
        "images/9.png",
        address,
        "https://shop.example/5.png",
        "../outside.png",
    ]
    found = item_pictures(catalogue(images), tmp_path)
    assert found.rows.tolist() == [0, 2, 4]
    assert [path.name for path in found.paths] == ["0.png", "1.png", "0.png"]
    assert (found.unnamed, found.missing) == (1, 3)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (["images/0.png", "images/1.png"], "not one of the 2 pictures.*images/0.png.*did the folder move"),
        (["https://shop.example/5.png"], "data.pictures.fetch=true"),
        ([None, None], "no item names a picture"),
    ],
)
def test_no_picture_at_all_is_an_error(tmp_path: Path, images: list[str | None], words: str):
    with pytest.raises(UserError, match=words):
        item_pictures(catalogue(images), tmp_path)


def test_a_table_without_the_column(tmp_path: Path):
    with pytest.raises(UserError, match="no item names a picture"):
        item_pictures(catalogue(["a"]).drop("image"), tmp_path)


def test_a_fingerprint_follows_the_pictures(tmp_path: Path):
    paths = shop_clip.write_pictures(tmp_path, 2)
    first = folder_fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    assert folder_fingerprint(tmp_path) == first
    paths[1].write_bytes(paths[1].read_bytes() + b"x")
    assert folder_fingerprint(tmp_path) != first
    with pytest.raises(UserError, match="there is no folder"):
        folder_fingerprint(tmp_path / "moved")
