"""Labels made by hand: every row lands on its interest, is counted as unknown, or is refused with a reason."""

from pathlib import Path

import pytest

from dig.config import UserError
from dig.interests import Interest, read_labels, to_frame

INTERESTS = to_frame(
    [
        Interest("A", "Gift-Ready", "text", None, "m"),
        Interest("A", "soft", "text", None, "m"),
        Interest("A", "soft", "visual", None, "n"),
        Interest("B", "for travel", "text", 0.9, "m", votes=2, miners=("m", "n"), wordings=("for travel", "Carry-on")),
    ]
)


@pytest.fixture
def write(tmp_path: Path):
    def to_file(*rows: str, header: str = "item_id,interest,label") -> Path:
        path = tmp_path / "labels.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return to_file


def test_rows_are_found_by_folded_text_and_merged_wordings(write):
    read = read_labels(write("A,GIFT-ready ,1", 'A," soft",0', "B,carry-on,1"), INTERESTS)
    assert read.verdicts.tolist() == [1, 0, 0, 1]  # both kinds of "soft"
    assert (read.log.lines, read.log.bad_lines, read.log.twins, len(read.log.unknown)) == (3, 0, 0, 0)


def test_further_columns_and_any_order_are_fine(write):
    path = write("1,why not,A,soft", header="label,note,item_id,interest")
    assert read_labels(path, INTERESTS).verdicts.tolist() == [-1, 1, 1, -1]
    path.write_bytes(b"\xef\xbb\xbfitem_id,interest,label\r\nA,soft, 1\r\n")  # as spreadsheets write it
    assert read_labels(path, INTERESTS).verdicts.tolist() == [-1, 1, 1, -1]


def test_unknown_interests_and_repeated_rows_are_counted(write):
    read = read_labels(write("A,hard,1", "Z,soft,0", "Z,soft,0", "A,soft,1", "A,Soft,1"), INTERESTS)
    assert dict(read.log.unknown) == {"A: hard": 1, "Z: soft": 2}
    assert read.log.twins == 1 and read.verdicts.tolist() == [-1, 1, 1, -1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",soft,1", "item_id is blank"),
        ("A, ,1", "interest is blank"),
        ("A,soft", "label must be 0 or 1, it is 'None'"),
        ("A,soft,yes", "label must be 0 or 1, it is 'yes'"),
        ("A,soft,0.5", "label must be 0 or 1"),
        ("A,gift-ready,0", "contradicts an earlier row"),
    ],
)
def test_a_bad_row_is_left_out_counted_and_named(write, row, reason):
    path = write("A,gift-ready,1", row)
    read = read_labels(path, INTERESTS, max_bad_fraction=0.5)
    assert read.verdicts.tolist() == [1, -1, -1, -1]
    assert read.log.bad_lines == 1 and read.log.examples[0].startswith(f"{path}:3: ")
    assert reason in read.log.examples[0]
    with pytest.raises(UserError, match=r"1 of 2 lines are bad, more than the 1\.0% allowed"):
        read_labels(path, INTERESTS)


def test_one_percent_is_tolerated_and_not_more(write):
    assert read_labels(write(*["A,soft,1"] * 99, "A,soft,x"), INTERESTS).log.bad_lines == 1
    with pytest.raises(UserError, match="2 of 100"):
        read_labels(write(*["A,soft,1"] * 98, "A,soft,x", "A,soft,x"), INTERESTS)


def test_files_that_cannot_be_read_end_in_one_line(tmp_path: Path, write):
    with pytest.raises(UserError, match="lacks the column label"):
        read_labels(write("A,soft", header="item_id,interest"), INTERESTS)
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        read_labels(tmp_path / "none.csv", INTERESTS)
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match=r"binary\.csv cannot be read"):
        read_labels(tmp_path / "binary.csv", INTERESTS)
