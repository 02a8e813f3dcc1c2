"""`data.download=true` on a local server that stands in for the publisher."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.faulty_server import FaultyServer, Page

from datamodules.download import PUBLISHED, picture_paths
from datamodules.fetching import PICTURES, fetch_data, fetch_item_pictures, missing_files
from datamodules.preparation import prepare
from datamodules.sources import read_source
from dig.config import UserError
from dig.config.schema import DataConfig, PictureConfig
from dig.engine.console import console
from dig.train import main

REVIEWS = [
    {"reviewerID": f"u{user}", "asin": f"i{(user + step) % 5}", "overall": 5.0, "unixReviewTime": 1000 * step}
    for user in range(6)
    for step in range(4)
]
ITEMS = [{"asin": f"i{item}", "title": f"Item {item}", "categories": [["Beauty"]]} for item in range(9)]


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        reviews = "".join(f"{json.dumps(review)}\n" for review in REVIEWS)
        running.pages["/reviews_Beauty_5.json.gz"] = Page(gzip.compress(reviews.encode()), cuts=[40])
        running.pages["/meta_Beauty.json.gz"] = Page(
            gzip.compress("".join(f"{item}\n" for item in ITEMS[:-5]).encode())
        )
        yield running


def config(server: FaultyServer, folder: Path, **changes: object) -> DataConfig:
    start = DataConfig(path=str(folder / "beauty"), published="amazon2014/Beauty", download=True, mirrors=[server.url])
    return replace(start, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "amazon2014/Beauty", replace(PUBLISHED["amazon2014/Beauty"], bases=()))


def test_what_is_missing_is_fetched_converted_and_found_again(server: FaultyServer, tmp_path: Path):
    wanted = config(server, tmp_path)
    assert [path.name for path in missing_files(wanted)] == ["reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"]
    with console.capture() as captured:
        fetch_data(wanted)
    assert "converting amazon2014/Beauty to tables" in captured.get()
    folder = tmp_path / "beauty"
    assert {path.name for path in folder.iterdir()} == {"raw", "interactions.csv.gz", "items.jsonl.gz"}
    prepared = prepare(read_source(DataConfig(path=str(folder))), DataConfig())
    assert (len(prepared.sequences), len(prepared.catalogue), len(prepared.sequences.items)) == (6, 5, 24)
    assert prepared.catalogue["title"].to_list() == ["Item 0", "Item 1", "Item 2", "Item 3", None]  # one has no record
    asked = len(server.asked)
    assert missing_files(wanted) == []
    with console.capture():
        fetch_data(wanted)
    assert len(server.asked) == asked  # nothing is fetched twice
    raw = {path.name for path in (folder / "raw").iterdir() if not path.name.startswith(".")}
    assert raw == {"reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"}


def test_a_raw_source_gets_the_publishers_files(server: FaultyServer, tmp_path: Path):
    wanted = config(server, tmp_path, source="amazon2014", category="Beauty", unknown_items="keep")
    with console.capture():
        fetch_data(wanted)
        tables = read_source(wanted)
    assert len(tables.interactions) == 24 and not (tmp_path / "beauty" / "raw").exists()


def test_nothing_happens_unasked(server: FaultyServer, tmp_path: Path):
    fetch_data(config(server, tmp_path, download=False))
    assert missing_files(config(server, tmp_path, download=False)) == []
    assert not server.asked and not list(tmp_path.iterdir())


def test_what_cannot_be_fetched_is_said(server: FaultyServer, tmp_path: Path):
    with pytest.raises(UserError, match=r"data\.download=true needs data\.published, .* such as amazon2014/Beauty"):
        fetch_data(config(server, tmp_path, published=None))
    with pytest.raises(UserError, match="did you mean amazon2014/Beauty"):
        fetch_data(config(server, tmp_path, published="amazon2014/Beauti"))
    server.pages.clear()
    refusal = r"reviews_Beauty_5.json.gz cannot be fetched: .* answered 404"
    with console.capture(), pytest.raises(UserError, match=refusal) as caught:
        fetch_data(config(server, tmp_path))
    assert "\n" not in str(caught.value)


def test_the_command_line_fetches_and_prepares(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DIG_DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    command = ["experiment=beauty", "data.download=true", f"data.mirrors=[{server.url}]", "stages=[mine]"]
    assert main([*command, "--dry-run"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert "download" in shown and "uty.json.gz" in shown and not server.asked  # folded to the width
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "6 users, 5 items, 24 interactions" in shown
    # the interests that a language model mined are not published with the data
    assert "the miner lexical stands in (mining.fallback)" in shown and "miners: lexical" in shown


def test_pictures_of_the_catalogue(server: FaultyServer, tmp_path: Path):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "png")
    server.pages["/a.png"] = Page(stream.getvalue())
    rows = [
        {"item_id": "a", "title": "A", "image": f"{server.url}/a.png"},
        {"item_id": "b", "title": "B"},
        {"item_id": "c", "title": "C", "image": "local/c.png"},
        {"item_id": "d", "title": "D", "image": f"{server.url}/none.png"},
    ]
    (tmp_path / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\nu,a,1\n")
    pictures = PictureConfig(fetch=True, allow_private_hosts=True, timeout=2.0)
    with console.capture() as captured:
        fetch_item_pictures(DataConfig(path=str(tmp_path), pictures=pictures))
    assert "1 fetched, 0 there already, 1 missing (1 × answered 404 Not Found)" in captured.get()
    assert set(picture_paths(tmp_path / PICTURES)) == {"a"}
    asked = len(server.asked)
    fetch_item_pictures(DataConfig(path=str(tmp_path)))
    assert len(server.asked) == asked
