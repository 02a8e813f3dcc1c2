"""``python -m endpoints [SERVER …]``: starts each server, asks what it honours, mines 20 items with ``dig``, and checks
the books against what the server counted itself. Prints a table of Markdown, as it stands in ``docs/interests.md``."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import polars as pl
import yaml

from datamodules.sources.quickstart import write_shop
from endpoints.probes import PROBES, probe
from endpoints.servers import SERVERS, Models, Running, running

ITEMS = 20


def shop_of(folder: Path) -> Path:
    """The first items of the generated shop, and who bought at least two of them."""
    write_shop(folder / "whole", items=60, users=200)
    lines = (folder / "whole" / "items.jsonl").read_text().splitlines()[:ITEMS]
    shop = folder / "shop"
    shop.mkdir()
    (shop / "items.jsonl").write_text("\n".join(lines) + "\n")
    item_ids = [json.loads(line)["item_id"] for line in lines]
    events = pl.read_csv(folder / "whole" / "interactions.csv").filter(pl.col("item_id").is_in(item_ids))
    events.filter(pl.len().over("user_id") >= 2).write_csv(shop / "interactions.csv")
    return shop


def mined(server: Running | None, folder: Path, shop: Path, model: dict[str, Any], python: Path) -> dict[str, Any]:
    """What ``dig`` made of the items: exit code, what it said, its books."""
    folder.mkdir(parents=True)
    content = {
        "data": {"path": str(shop)},
        "logging": {"progress": False},
        "mining": {
            "miners": ["small"],
            "interests_prompt": "interests-small-v1",
            "max_interests": 3,
            "max_missing": 1.0,
            "models": {"small": {"max_output": 160, "price_in": 1.0, "price_out": 2.0, **model}},
        },
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    variables = os.environ | {"DIG_HOME": str(folder / "home")}
    before = server.counted() if server is not None else None
    begun = time.monotonic()
    done = subprocess.run(
        [str(python), "-m", "dig.train", "experiment=mine.yaml", "stages=[mine]", f"runs_dir={folder / 'runs'}"],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
    )
    took = time.monotonic() - begun
    with sqlite3.connect(folder / "home" / "interests" / "answers.sqlite") as base:
        read, written, requests, paid = base.execute(
            "SELECT TOTAL(tokens_in), TOTAL(tokens_out), COUNT(*), TOTAL(state IN (1, 4)) FROM requests"
        ).fetchone()
        unknown = base.execute("SELECT TOTAL(state IN (0, 3)) FROM requests").fetchone()[0]
        answers = base.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
        failures = base.execute("SELECT COUNT(*) FROM failures").fetchone()[0]
    after = server.counted() if server is not None else None
    counted = None if before is None or after is None else (after[0] - before[0], after[1] - before[1])
    return {
        "code": done.returncode,
        "said": done.stdout + done.stderr,
        "seconds": round(took, 1),
        "answers": answers,
        "failures": failures,
        "requests": requests,
        "paid": int(paid),
        "unknown": int(unknown),
        "books": (int(read), int(written)),
        "counted": counted,
    }


def one(name: str, environments: Path, models: Models, folder: Path) -> dict[str, str]:
    """A server's row, every cell of which was measured."""
    with running(SERVERS[name], environments, models, folder / f"{name}.log") as server:
        print(f"{server.server.name} {server.version}: answered after {server.started:.0f} s", flush=True)
        shop = shop_of(folder / f"{name}-shop")
        model = {"model": server.model, "base_url": server.url, "format": "json_schema"}
        result = mined(server, folder / f"{name}-mining", shop, model, Path(sys.executable))
        print("\n".join(f"  | {line}" for line in result["said"].splitlines()), flush=True)
        row = {"version": server.version, **probe(server)}
    assert result["code"] == 0, result["said"]
    assert result["answers"] + result["failures"] == ITEMS, result
    assert result["unknown"] == 0, result
    row["20 items with dig"] = (
        f"{result['answers']} answered, {result['failures']} kept as failures, {result['requests']} requests, none "
        f"unknown, {result['seconds']:.0f} s"
    )
    books, counted = result["books"], result["counted"]
    if counted is None:
        row["books"] = f"{books[0]:,} read, {books[1]:,} written; it counts nothing itself"
    else:
        equal = "equal to its own" if counted == books else f"its own: {counted[0]:,} and {counted[1]:,}"
        row["books"] = f"{books[0]:,} read, {books[1]:,} written; {equal}"
    print(f"  {row['20 items with dig']}; {row['books']}", flush=True)
    return row


def offline(environments: Path, models: Models, folder: Path) -> dict[str, str]:
    """The kind ``vllm``: in the process of dig, which needs dig in vLLM's environment."""
    from endpoints.servers import environment

    server = SERVERS["vllm"]
    python = environment(server, environments)
    if subprocess.run([str(python), "-c", "import dig.train"], capture_output=True).returncode:
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-e", "."], check=True)
    os.environ |= dict(server.variables)
    shop = shop_of(folder / "offline-shop")
    model = {"kind": "vllm", "model": str(models.folder), "dtype": "float32", "format": "json_schema"}
    result = mined(None, folder / "offline-mining", shop, model, python)
    print("\n".join(f"  | {line}" for line in result["said"].splitlines()[-20:]), flush=True)
    assert result["code"] == 0 and result["answers"] + result["failures"] == ITEMS, result
    return {
        "20 items with dig": f"{result['answers']} answered, {result['failures']} kept as failures, "
        f"{result['requests']} requests, {result['seconds']:.0f} s",
        "books": f"{result['books'][0]:,} read, {result['books'][1]:,} written",
    }


def main() -> int:
    """Runs what is asked for, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m endpoints", description=__doc__)
    parser.add_argument("servers", nargs="*", default=[*SERVERS, "offline"], choices=[*SERVERS, "offline"])
    parser.add_argument(
        "--environments", type=Path, default=Path("runs/endpoints"), help="where they are made and kept"
    )
    parser.add_argument("--folder", type=Path, help="a folder of the model, with --gguf, in place of the packaged one")
    parser.add_argument("--gguf", type=Path)
    asked = parser.parse_args()
    models = Models(asked.folder, asked.gguf) if asked.folder and asked.gguf else Models.of_package()
    folder = Path(mkdtemp(prefix="dig-endpoints-"))
    rows: dict[str, dict[str, str]] = {}
    failed = False
    for name in asked.servers:
        try:
            work = offline if name == "offline" else lambda *parts, name=name: one(name, *parts)
            rows[name] = work(asked.environments.absolute(), models, folder)
        except AssertionError as error:
            print(f"{name} FAILED: {error}", flush=True)
            failed = True
    print(f"\n| | {' | '.join(rows)} |\n|---|{'---|' * len(rows)}")
    for what in ("version", *PROBES, "20 items with dig", "books"):
        print(f"| {what} | {' | '.join(row.get(what, '') for row in rows.values())} |")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
