"""The publishers' addresses of data sets, as their pages document them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datamodules.download.files import RemoteFile
from dig.config import UserError, nearest
from dig.config.sections.checks import secret_value
from dig.engine.secrets import named_variable

__all__ = ["PUBLISHED", "Publication", "published_files"]

# 2014: "Amazon product data", jmcauley.ucsd.edu/data/amazon/links.html, which points to SNAP.
_SNAP = ("https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",)
# 2018 and 2023: nijianmo.github.io/amazon and amazon-reviews-2023.github.io; the lab's host has moved several times.
_LAB = (
    "https://mcauleylab.ucsd.edu/public_datasets/data",
    "https://datarepo.eng.ucsd.edu/mcauley_group/data",
    "https://jmcauley.ucsd.edu/data",
)
_2018, _2023 = "amazon_v2", "amazon_2023"


@dataclass(frozen=True)
class Publication:
    """A published data set.

    Attributes:
        bases: hosts that carry it, the publisher's first.
        paths: its files' paths under a base.
    """

    bases: tuple[str, ...]
    paths: tuple[str, ...]


def _amazon2014(category: str) -> Publication:
    return Publication(_SNAP, (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz"))


def _amazon2018(category: str) -> Publication:
    reviews, items = f"{_2018}/categoryFilesSmall/{category}_5.json.gz", f"{_2018}/metaFiles2/meta_{category}.json.gz"
    return Publication(_LAB, (reviews, items))


def _amazon2023(category: str, ratings: Sequence[str]) -> Publication:
    items = f"{_2023}/raw/meta_categories/meta_{category}.jsonl.gz"
    return Publication(_LAB[:2], (*(f"{_2023}/benchmark/5core/{name}.csv.gz" for name in ratings), items))


def _amazon2023_whole(category: str) -> Publication:
    return _amazon2023(category, [f"rating_only/{category}"])


def _amazon2023_split(category: str) -> Publication:
    return _amazon2023(category, [f"last_out/{category}.{part}" for part in ("train", "valid", "test")])


PUBLISHED: dict[str, Publication] = {
    **{f"amazon2014/{name}": _amazon2014(name) for name in ("Beauty", "Sports_and_Outdoors", "Toys_and_Games")},
    **{
        f"{release}/{name}": make(name)
        for release, make in (
            ("amazon2018", _amazon2018),
            ("amazon2023", _amazon2023_whole),
            ("amazon2023-split", _amazon2023_split),
        )
        for name in ("Musical_Instruments", "Industrial_and_Scientific")
    },
}
"""Data sets by name. Lengths and checksums are not published; what arrives is checked against the server's length."""


def published_files(dataset: str, mirrors: Sequence[str] = ()) -> list[RemoteFile]:
    """The files of a data set with all addresses, the mirrors' first.

    Args:
        dataset: a key of :data:`PUBLISHED`.
        mirrors: addresses of folders that hold the files by their names; ``env:NAME`` for one in the environment.

    Raises:
        UserError: for an unknown data set, with the nearest one; for an environment variable that is not set.
    """
    if dataset not in PUBLISHED:
        hint = nearest(dataset, PUBLISHED) or ", ".join(PUBLISHED)
        raise UserError(f"data.published={dataset!r} is not known; did you mean {hint}?", exit_code=2)
    publication = PUBLISHED[dataset]
    files = []
    for path in publication.paths:
        name = path.rpartition("/")[2]
        own = [_in_mirror(mirror, name) for mirror in mirrors]
        files.append(RemoteFile(name, (*own, *(f"{base}/{path}" for base in publication.bases))))
    return files


def _in_mirror(mirror: str, name: str) -> str:
    """The address of a file in a mirror; a query, which may hold a signature, stays behind it."""
    variable = named_variable(mirror)
    address = mirror if variable is None else secret_value(variable, f"data.mirrors={mirror} needs it for an address")
    folder, mark, query = address.partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"
