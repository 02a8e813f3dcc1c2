"""Which column of two tables is what: by the column that joins them, by names in several languages, and by content."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from datamodules.sources.times import parse_times
from dig.config import UserError

__all__ = ["Guess", "TableGuess", "guess_tables"]

_WORDS = {
    "user_id": (
        "user customer client buyer kunde kundin kunden käufer cliente usuario utilisateur utente acheteur "
        "comprador member visitor reviewer account person shopper klant bruker klient session nutzer besucher "
    ),
    "item_id": (
        "item product article artikel produkt produit producto prodotto articulo sku asin isbn ean gtin movie "
        "film book buch livre libro track song game parent_asin id "
    ),
    "timestamp": (
        "timestamp time date datetime when datum zeit zeitpunkt uhrzeit fecha hora heure jour data tijd tid "
        "created created_at purchased purchased_at ordered order_date orderdate bought unixreviewtime "
        "kaufdatum bestelldatum moment "
    ),
    "rating": (
        "rating ratings stars star score bewertung sterne note nota étoiles estrellas valoracion puntuacion "
        "overall vote punkte voto beoordeling "
    ),
    "title": (
        "title titel titre titulo título titolo name nom nombre nome bezeichnung designation label "
        "product_name productname produktname artikelname movie_title naam "
    ),
    "brand": ("brand marke marque marca manufacturer hersteller fabricant maker vendor store publisher merk märke "),
    "categories": (
        "categories category genres genre kategorie kategorien catégorie categorie categoria categoría rubrik "
        "rubrique warengruppe department tags tag class type_of_product "
    ),
    "description": (
        "description beschreibung descripcion descripción descrizione texte text overview summary plot "
        "details detail omschrijving abstract about "
    ),
    "price": ("price preis prix precio prezzo preço cost amount prijs pris cena "),
    "image": ("image images picture bild photo foto img image_url imageurl thumbnail poster cover picture_url imagen "),
}
_KNOWN = {ours: frozenset(words.split()) for ours, words in _WORDS.items()}
_ENDINGS = ("id", "no", "nr", "number", "nummer", "code", "key", "uid")
_JOINS = 0.5  # share of the values of one table that the other must know
_TIMES = 0.9  # share of a column that must be times
_MOST_STARS = 20


@dataclass
class TableGuess:
    """The columns of one table.

    Attributes:
        columns: our name → the file's.
        reasons: our name → why.
        ignored: columns that nothing reads.
    """

    columns: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def take(self, ours: str, theirs: str, reason: str) -> None:
        """Records a guess."""
        self.columns[ours], self.reasons[ours] = theirs, reason


@dataclass(frozen=True)
class Guess:
    """Which of two tables holds the interactions (0 or 1), and the columns of both."""

    interactions_at: int
    interactions: TableGuess
    items: TableGuess


def guess_tables(frames: Sequence[pl.DataFrame], names: Sequence[str]) -> Guess:
    """Guesses from two tables of text.

    Args:
        frames: both tables, or their first rows, all text.
        names: of their files, for messages.

    Raises:
        UserError: if no column joins the tables, or if one that is needed cannot be told.
    """
    joins = [(_join(frames[at], frames[1 - at]), at) for at in (0, 1)]
    (score, theirs, items_column), at = max(joins, key=lambda join: join[0][0])
    if score == 0:
        raise UserError(
            f"{names[0]} and {names[1]}: no column of one names the rows of the other, so which is the table of "
            f"items cannot be told; they have {', '.join(frames[0].columns)} and {', '.join(frames[1].columns)}"
        )
    bought, catalogue = frames[at], frames[1 - at]
    shared = f"joins the tables: {bought[theirs].n_unique():,} different in {names[at]}, {len(catalogue):,} rows in "
    interactions, items = TableGuess(), TableGuess()
    interactions.take("item_id", theirs, f"{shared}{names[1 - at]}")
    items.take("item_id", items_column, "joins the tables")
    _guess_interactions(bought, interactions, names[at])
    _guess_items(catalogue, items, names[1 - at])
    for frame, table in ((bought, interactions), (catalogue, items)):
        table.ignored = [name for name in frame.columns if name not in table.columns.values()]
    return Guess(at, interactions, items)


def _join(bought: pl.DataFrame, catalogue: pl.DataFrame) -> tuple[float, str, str]:
    """How well the first table could be interactions with the second's items, and the columns that would join them."""
    best = (0.0, "", "")
    for theirs in catalogue.columns:
        ids = catalogue[theirs].drop_nulls()
        if len(ids) < 2 or len(ids) < len(catalogue) or ids.n_unique() < 0.99 * len(ids):
            continue
        distinct = ids.unique()
        for column in bought.columns:
            values = bought[column].drop_nulls()
            different = values.unique()
            if not len(values) or len(different) == len(bought) or _rank(column, "user_id") in (0, 1):
                continue  # what never comes twice is not an item that is bought
            inside = different.is_in(distinct.implode()).sum()
            if inside < _JOINS * len(different):
                continue
            score = inside / len(different) + inside / len(distinct)
            score += (_plain(column) == _plain(theirs)) + _names_item(column) + 0.5 * _names_item(theirs)
            if score > best[0]:
                best = (score, column, theirs)
    return best


def _guess_interactions(frame: pl.DataFrame, table: TableGuess, name: str) -> None:
    free = [column for column in frame.columns if column not in table.columns.values()]
    times = [column for column in free if _is_time(frame[column])]
    when = _named(times, "timestamp")
    if when is None:
        dated = [column for column in times if _calendar(frame[column])]
        if len(dated) != 1:
            could = f"; {', '.join(dated)} could be" if dated else f"; the columns are {', '.join(frame.columns)}"
            raise UserError(f"{name}: which column is the time cannot be told{could}; call it timestamp")
        table.take("timestamp", dated[0], "the only one that holds times")
    else:
        table.take("timestamp", when, "by its name, and it holds times")
    free.remove(table.columns["timestamp"])
    stars = _named([column for column in free if _is_number(frame[column])], "rating")
    if stars is not None:
        table.take("rating", stars, "by its name, and it holds numbers")
        free.remove(stars)
    user = _named(free, "user_id")
    if user is not None:
        table.take("user_id", user, f"by its name, {frame[user].n_unique():,} different")
        return
    again = [column for column in free if _comes_again(frame[column])]
    if len(again) != 1:
        could = f"; {', '.join(again)} could be" if again else f"; the columns are {', '.join(frame.columns)}"
        raise UserError(f"{name}: which column is the user cannot be told{could}; call it user_id")
    table.take("user_id", again[0], f"its values come again and again, {frame[again[0]].n_unique():,} different")


def _guess_items(frame: pl.DataFrame, table: TableGuess, name: str) -> None:
    for ours in ("title", "brand", "categories", "description", "price", "image"):
        free = [column for column in frame.columns if column not in table.columns.values()]
        named = _named(free, ours)
        if named is not None:
            table.take(ours, named, "by its name")
        elif ours == "title":
            texts = [column for column in free if _is_title(frame[column])]
            if len(texts) != 1:
                could = f"; {', '.join(texts)} could be" if texts else f"; the columns are {', '.join(frame.columns)}"
                raise UserError(f"{name}: which column is the title cannot be told{could}; call it title")
            table.take("title", texts[0], "nearly every item has words of its own there")


def _named(columns: Sequence[str], ours: str) -> str | None:
    """The column whose name fits best: ours, then a word for it, then one that holds such a word."""
    ranked = sorted((rank, place) for place, name in enumerate(columns) if (rank := _rank(name, ours)) is not None)
    return columns[ranked[0][1]] if ranked else None


def _plain(name: str) -> str:
    """A column's name in small letters: ``Kunden-Nr.`` is ``kunden_nr``, and ``reviewerID`` is ``reviewer_id``."""
    spaced = re.sub(r"(?<=[a-zäöü])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\W_]+", "_", spaced.lower()).strip("_")


def _rank(name: str, ours: str) -> int | None:
    """How well a name fits, 0 best; None if it does not."""
    plain = _plain(name)
    if plain == ours or plain.replace("_", "") == ours.replace("_", ""):
        return 0
    parts = plain.split("_")
    bare = [part for part in parts if part not in _ENDINGS] or parts
    joined = "".join(bare)
    for ending in _ENDINGS:  # customerid, artikelnr
        joined = joined.removesuffix(ending) or joined
    if {plain, "".join(parts), "_".join(bare), joined} & _KNOWN[ours]:
        return 1
    return 2 if set(bare) & _KNOWN[ours] else None


def _names_item(name: str) -> bool:
    return _rank(name, "item_id") is not None


def _comes_again(values: pl.Series) -> bool:
    different = values.n_unique()
    few = different <= _MOST_STARS and _is_number(values)
    return 1 < different <= len(values) / 2 and not values.null_count() and not few


def _is_time(values: pl.Series) -> bool:
    present = values.drop_nulls()
    parsed = parse_times(present)
    good = parsed.number.is_not_null()
    if parsed.second is not None:
        good |= parsed.second.is_not_null()
    return len(present) > 0 and int(good.sum()) >= _TIMES * len(present)


def _calendar(values: pl.Series) -> bool:
    """Whether times are dates, or numbers as large as seconds since 1970 are."""
    numbers = values.cast(pl.Float64, strict=False)
    if numbers.null_count() > len(values) / 2:
        return True
    return float(numbers.median() or 0) > 1e8


def _is_number(values: pl.Series) -> bool:
    numbers = values.drop_nulls().str.replace(",", ".").cast(pl.Float64, strict=False)
    return len(numbers) > 0 and numbers.null_count() < 0.1 * len(numbers)


def _is_title(values: pl.Series) -> bool:
    present = values.drop_nulls()
    letters = present.str.contains(r"\p{L}{2}").sum()
    return len(present) > 0 and letters > 0.9 * len(values) and present.n_unique() > 0.8 * len(present)
