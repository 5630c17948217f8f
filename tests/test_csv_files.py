import csv
from pathlib import Path

import pytest

from lightning_seg.csv_files import read_csv, write_csv

FORMULAS = [
    '=HYPERLINK("http://example.org","road")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "＝1+1",
    "'=1",
    "''=1",
]
TEXTS = ["road", "'s-Gravenhage", "tree, bush", 'a "quote"', "a;b", "straße", "", "road [asphalt]"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_is_not_a_formula_and_is_read_as_it_was(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "a.csv", [["class", "iou"], [text, 0.5]])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        cell = list(csv.reader(file))[1][0]
    assert cell.startswith("'")
    assert read_csv(tmp_path / "a.csv") == (["class", "iou"], [{"class": text, "iou": "0.5"}])


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_no_spreadsheet_finds_a_second_cell_in_a_name(tmp_path: Path, separator: str) -> None:
    write_csv(tmp_path / "a.csv", [["class"], [f"road{separator}=1+1"]])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        (cell,) = list(csv.reader(file, delimiter=separator))[1]
    assert not cell.startswith("=")


@pytest.mark.parametrize("name", ["a\n=1+1", "a\r\n=1", "\t=1", "\x1b[31m"])
def test_a_name_begins_no_line_of_its_own(tmp_path: Path, name: str) -> None:
    write_csv(tmp_path / "a.csv", [["class"], [name]])
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 2


def test_other_texts_and_numbers_are_written_as_they_are(tmp_path: Path) -> None:
    numbers = [-0.5, float("-inf"), float("nan"), 1e-9, 3, None, "-0.25", "+1e3"]
    write_csv(tmp_path / "a.csv", [["text", "number"], *zip(TEXTS, numbers, strict=True)])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == TEXTS
    assert [row[1] for row in rows] == ["-0.5", "-inf", "nan", "1e-09", "3", "", "-0.25", "+1e3"]
    assert [row["text"] for row in read_csv(tmp_path / "a.csv")[1]] == TEXTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2,3\n", "has 3 cells in row 2 and 2 columns"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b'a\n"' + b"x" * 200_000 + b'"\n', "field larger than field limit"),
        (b'a\n"x', "unexpected end of data"),
    ],
)
def test_what_is_not_a_table_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.csv .*{message}"):
        read_csv(tmp_path / "a.csv")


def test_a_short_row_and_an_empty_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1\n\n")
    assert read_csv(tmp_path / "a.csv") == (["a", "b"], [{"a": "1", "b": ""}])
    (tmp_path / "a.csv").write_text("")
    assert read_csv(tmp_path / "a.csv") == ([], [])
