"""What no run uses goes, and nothing else: not what is in use, being built, not an artifact, or behind a link."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from dig.config import UserError
from dig.engine.artifacts import ArtifactStore, link_or_copy
from dig.engine.pruning import list_stored, prunable, remove

KEYS = [f"{number:016x}" for number in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "home")


def built(store: ArtifactStore, key: str, *runs: Path, kind: str = "sft", days: float = 0) -> Path:
    """An artifact of 1,000 bytes and its manifest, used by runs, built some days ago."""
    for run in runs:
        run.mkdir(parents=True, exist_ok=True)
        store.note_use(kind, key, run)
    folder = store.get(kind, key, lambda work: (work / "weights").write_bytes(b"x" * 1000), {}).path
    moment = time.time() - days * 86_400
    os.utime(folder / "manifest.json", (moment, moment))
    return folder


def names(stored: list) -> list[str]:
    return [each.fingerprint for each in stored]


def test_what_a_run_uses_stays_until_the_run_is_gone(store: ArtifactStore, tmp_path: Path) -> None:
    run, other = tmp_path / "runs/a/1", tmp_path / "runs/a/2"
    folder = built(store, KEYS[0], run, other)
    assert prunable(list_stored(store)) == []
    run.rmdir()
    assert prunable(list_stored(store)) == [], "another one uses it"
    other.rmdir()
    (stored,) = prunable(list_stored(store))
    assert stored.size > 1000 and stored.kind == "sft" and stored.runs == ()
    assert list(remove(store, [stored])) == [(stored, True)]
    assert not folder.exists() and [path.name for path in folder.parent.iterdir()] == [f"{KEYS[0]}.lock"]
    assert store.find("sft", KEYS[0]) is None
    built(store, KEYS[0], run)
    assert store.find("sft", KEYS[0]) is not None, "it is built again where it is wanted again"


def test_only_what_is_older_and_not_among_the_newest(store: ArtifactStore, tmp_path: Path) -> None:
    for days, key in enumerate(KEYS):
        built(store, key, tmp_path / "gone", days=days)
    built(store, KEYS[0], tmp_path / "gone", kind="grpo", days=9)
    (tmp_path / "gone").rmdir()
    stored = list_stored(store)
    assert names(prunable(stored, days=1.5)) == [KEYS[0], KEYS[3], KEYS[2]]
    assert [(each.kind, each.fingerprint) for each in prunable(stored, keep=3)] == [("sft", KEYS[3])]
    assert prunable(stored, keep=1, days=100) == []


def test_uses_that_nobody_wrote_down_keep_an_artifact(store: ArtifactStore) -> None:
    built(store, KEYS[0])
    stored = list_stored(store)
    assert not stored[0].recorded and prunable(stored) == []
    assert names(prunable(stored, unrecorded=True)) == [KEYS[0]]


def test_interrupted_builds_go_only_when_asked_and_never_while_they_run(store: ArtifactStore) -> None:
    work = store.work_folder("sft", KEYS[1])
    (work / "scratch").mkdir(parents=True)
    (work / "scratch/resume.ckpt").write_bytes(b"x" * 10)
    stored = list_stored(store)
    assert prunable(stored, unrecorded=True) == []
    (left,) = prunable(stored, interrupted=True)
    with work.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert list(remove(store, [left])) == [(left, False)]
        assert work.is_dir()
    assert list(remove(store, [left])) == [(left, True)]
    assert not work.exists()


def test_a_run_that_begins_to_use_it_meanwhile_keeps_it(store: ArtifactStore, tmp_path: Path) -> None:
    folder = built(store, KEYS[0], tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    chosen = prunable(list_stored(store))
    (tmp_path / "new").mkdir()
    store.note_use("sft", KEYS[0], tmp_path / "new")
    assert [gone for _, gone in remove(store, chosen)] == [False] and folder.is_dir()


def test_what_is_not_an_artifact_is_not_even_listed(store: ArtifactStore, tmp_path: Path) -> None:
    built(store, KEYS[0])
    kind = store.root / "sft"
    (kind / "my notes").mkdir()
    (kind / KEYS[1]).mkdir()  # no manifest
    (kind / KEYS[2]).mkdir()
    (kind / KEYS[2] / "manifest.json").write_text('{"fingerprint": "another", "files": {}}')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "manifest.json").write_text(f'{{"fingerprint": "{KEYS[3]}", "files": {{}}}}')
    (kind / KEYS[3]).symlink_to(elsewhere)
    (store.root / "linked").symlink_to(kind)
    (store.root.parent / "answers.sqlite").write_text("money")
    assert names(list_stored(store)) == [KEYS[0]]


def test_a_link_inside_of_an_artifact_is_removed_and_not_followed(store: ArtifactStore, tmp_path: Path) -> None:
    folder = built(store, KEYS[0])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/data").write_text("precious")
    (folder / "link").symlink_to(tmp_path / "mine")
    chosen = prunable(list_stored(store), unrecorded=True)
    assert [gone for _, gone in remove(store, chosen)] == [True] and not folder.exists()
    assert (tmp_path / "mine/data").read_text() == "precious"


def test_files_that_a_run_holds_too_are_not_counted_as_freed(store: ArtifactStore, tmp_path: Path) -> None:
    folder = built(store, KEYS[0])
    link_or_copy(folder / "weights", tmp_path / "runs/a/weights")
    (stored,) = list_stored(store)
    assert stored.shared == 1000
    list(remove(store, [stored]))
    assert (tmp_path / "runs/a/weights").stat().st_size == 1000, "the run keeps what it shows"


def test_a_folder_that_is_none_of_digs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder of artifacts; set DIG_HOME"):
        list_stored(ArtifactStore(tmp_path))
