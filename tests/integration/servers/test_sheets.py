"""The Sheets server as a process, against a fake Sheets API."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.google import FakeGoogle, run_fake_google
from tests.support.google.client import ServerProcess, run_server
from tests.support.google.example import fill_account
from tests.support.google.http import AUTH, TOKEN, Fault

pytestmark = pytest.mark.no_cover  # in this process; forks are measured


@pytest.fixture(scope="module")
def api() -> Iterator[FakeGoogle]:
    with run_fake_google() as service:
        yield service


@pytest.fixture(scope="module")
def process(api: FakeGoogle) -> Iterator[ServerProcess]:
    with run_server("sheets", google=api) as server:
        yield server


@pytest.fixture
def sheets(process: ServerProcess, api: FakeGoogle) -> ServerProcess:
    """Return the server with the initial spreadsheets."""
    api.sheets.__init__(api)  # type: ignore[misc]
    fill_account(api)
    api.faults.clear()
    api.journal.clear()
    return process


def cells(api: FakeGoogle, sheet: str = "Costs") -> list[list[Any]]:
    rows: list[list[Any]] = api.sheets.books["budget-1"]["_sheets"][sheet]["cells"]
    return rows


def read(sheets: ServerProcess, range_: str, **arguments: Any) -> list[list[Any]]:
    rows: list[list[Any]] = sheets.call("read_range", spreadsheet_id="budget-1", range=range_, **arguments)["rows"]
    return rows


def test_sheets_and_named_ranges_are_listed(sheets: ServerProcess) -> None:
    result = sheets.call("get_spreadsheet", spreadsheet_id="https://docs.google.com/spreadsheets/d/budget-1/edit#gid=0")
    assert result["title"] == "Party budget"
    assert result["sheets"] == [
        {"id": 0, "title": "Costs", "rows": 1000, "columns": 26},
        {"id": 1, "title": "My sheet's", "rows": 1000, "columns": 26},
    ]
    assert result["named_ranges"] == {"Prices": "'Costs'!B2:B3"}


def test_values_are_typed_formatted_or_formulas(sheets: ServerProcess) -> None:
    assert read(sheets, "Costs!A2:C4") == [["Tea", 3.5, True], ["Cake", 12, False], ["Total", 15.5]]
    assert read(sheets, "costs!a2:c2", values="formatted") == [["Tea", "3.5", "TRUE"]]
    assert read(sheets, "B4", values="formulas") == [["=SUM(B2:B3)"]]
    assert read(sheets, "Prices") == [[3.5], [12]]
    assert read(sheets, "'My sheet''s'!A:A") == [["x"], [1]]
    assert read(sheets, "My sheet's") == [["x", "y"], [1, 2]]
    assert read(sheets, "D10:F20") == []


def test_the_text_shows_row_numbers(sheets: ServerProcess) -> None:
    result = sheets.call("read_range", spreadsheet_id="budget-1", range="Costs!A2:B3")
    assert result.text == '\'Costs\'!A2:B3\n2: ["Tea", 3.5]\n3: ["Cake", 12]'


def test_a_large_range_comes_in_pages_and_gaps_are_skipped(sheets: ServerProcess, api: FakeGoogle) -> None:
    rows: list[list[Any]] = [[number, f"row {number}"] for number in range(1, 1201)]
    rows[700:1100] = [[] for _ in range(400)]
    api.sheets.add("large", "Large", {"S": rows}, rows=5000)
    rows_seen: dict[int, Any] = {}
    cursor: dict[str, str] = {}
    pages = 0
    while True:
        result = sheets.call("read_range", spreadsheet_id="large", range="S", max_rows=300, **cursor)
        rows_seen |= {result["first_row"] + index: row for index, row in enumerate(result["rows"]) if row}
        pages += 1
        if "next_cursor" not in result.structured:
            break
        assert result.text.endswith(f"[more rows: cursor={result['next_cursor']}]")
        cursor = {"cursor": result["next_cursor"]}
    assert rows_seen == {number: [number, f"row {number}"] for number in (*range(1, 701), *range(1101, 1201))}
    assert pages == 4
    error = sheets.call("read_range", spreadsheet_id="large", range="S!A1:B10", cursor="11")
    assert error.text == "cursor: expected next_cursor of a page of 'S'!A1:B10"


def test_a_gap_is_skipped_in_the_requested_format(sheets: ServerProcess, api: FakeGoogle) -> None:
    hidden_cell = {"formula": '=IF(FALSE, 1, "")', "value": ""}
    api.sheets.add("gap", "Gap", {"S": [["a"], *[[""] for _ in range(700)], [hidden_cell]]})
    result = sheets.call("read_range", spreadsheet_id="gap", range="S!A1:A900", values="formulas", max_rows=100)
    assert result["next_cursor"] == "702"


def test_a_page_is_limited_by_its_text(sheets: ServerProcess, api: FakeGoogle) -> None:
    api.sheets.add("wordy", "Wordy", {"S": [["x" * 7000, number] for number in range(10)]})
    result = sheets.call("read_range", spreadsheet_id="wordy", range="S")
    assert len(result["rows"]) == 2
    assert result["next_cursor"] == "3"
    api.sheets.add("huge", "Huge", {"S": [["y" * 50_000, 1], ["z"]]})
    result = sheets.call("read_range", spreadsheet_id="huge", range="S!A1:B2")
    assert result["rows"] == [["y" * 1000 + "…", 1]]
    assert "read one alone" in result["note"]
    api.sheets.add("broad", "Broad", {"S": [["x" * 900 for _ in range(200)], ["end"]]}, columns=200)
    result = sheets.call("read_range", spreadsheet_id="broad", range="S")
    assert len(result.text) < 22_000
    assert result["note"] == "Columns from W on are left out: read a range that starts there."
    assert sheets.call("read_range", spreadsheet_id="broad", range="S", cursor=result["next_cursor"])["rows"] == [
        ["end"]
    ]
    assert sheets.call("read_range", spreadsheet_id="huge", range="S!A1")["rows"] == [["y" * 50_000]]


def test_several_ranges_are_read_together(sheets: ServerProcess, api: FakeGoogle) -> None:
    result = sheets.call("read_ranges", spreadsheet_id="budget-1", ranges=["Costs!A1:B1", "'My sheet''s'!B2", "Z99"])
    assert result["ranges"] == [
        {"range": "'Costs'!A1:B1", "rows": [["Item", "Price"]]},
        {"range": "'My sheet''s'!B2", "rows": [[2]]},
        {"range": "'Costs'!Z99", "rows": []},
    ]
    whole_sheets = sheets.call("read_ranges", spreadsheet_id="budget-1", ranges=["Costs", "My sheet's"])
    assert [len(item["rows"]) for item in whole_sheets["ranges"]] == [4, 2]
    api.sheets.add("wordy", "Wordy", {"S": [["x" * 40_000] * 30]}, columns=30)
    error = sheets.call("read_ranges", spreadsheet_id="wordy", ranges=["S"])
    assert error.text.endswith("larger than 1,048,576 bytes: read_range returns large ranges page by page")


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        ("Nope!A1", "no sheet is named 'Nope'; the spreadsheet has: Costs, My sheet's"),
        (
            "Sheet1",
            "'Sheet1' is neither cells, such as A1:C10 or 'My sheet'!A:C, nor a sheet or a named range; there are the sheets Costs, My sheet's and the ranges Prices",
        ),
        ("A0", "'A0' is neither cells"),
        ("Costs!A1:", "'Costs!A1:' is not a range: the part after the colon is incomplete"),
        ("Costs!A1;B2", "'Costs!A1;B2' is not a range"),
        ("Costs!A0", "'Costs!A0' is not a range: write it like A1:C10, Sheet1!A:C, 'My sheet'!2:5, or Sheet1"),
        ("A1:B2:C3", "'A1:B2:C3' is neither cells"),
        ("AAAA1", "'AAAA1' is neither cells"),
        ("Costs!AA1", "'Costs!AA1' lies outside the sheet 'Costs', which has 1000 rows and columns A to Z"),
        ("A1001", "'A1001' lies outside the sheet 'Costs'"),
    ],
)
def test_an_invalid_range_is_reported(sheets: ServerProcess, api: FakeGoogle, range_: str, expected: str) -> None:
    result = sheets.call("read_range", spreadsheet_id="budget-1", range=range_)
    assert result.is_error
    assert result.text.startswith(expected)
    assert not [item for item in api.request_lines() if "/values" in item]


def test_rows_are_appended_at_the_end(sheets: ServerProcess, api: FakeGoogle) -> None:
    result = sheets.call(
        "append_rows",
        spreadsheet_id="budget-1",
        title="Party budget",
        range="Costs",
        rows=[["Wine", 9, True], ["=1+1", None, ""]],
    )
    assert "were stored as text" in result.structured.pop("note")
    assert result.structured == {"range": "Costs!A5:C6", "rows": 2, "columns": 3, "cells": 5}
    assert cells(api)[4:] == [["Wine", 9, True], ["=1+1", "", ""]]


def test_rows_are_appended_to_the_table_at_the_top(sheets: ServerProcess, api: FakeGoogle) -> None:
    api.sheets.add("two", "Two", {"S": [["a", 1], ["b", 2], [], ["", "", "note"]]})
    sheets.call("append_rows", spreadsheet_id="two", title="Two", range="S", rows=[["c", 3]])
    assert read_rows(sheets, "two", "S") == [["a", 1], ["b", 2], ["c", 3], [], ["", "", "note"]]
    sheets.call("append_rows", spreadsheet_id="two", title="Two", range="S!C5:D5", rows=[["more"]])
    assert read_rows(sheets, "two", "S")[-1] == ["", "", "more"]


def test_the_first_sheet_is_the_first_visible(sheets: ServerProcess, api: FakeGoogle) -> None:
    api.sheets.add("veiled", "Veiled", {"Secret": [["no"]], "Shown": [["yes"]]})
    api.sheets.books["veiled"]["_sheets"]["Secret"]["hidden"] = True
    assert read_rows(sheets, "veiled", "A1") == [["yes"]]
    assert read_rows(sheets, "veiled", "Secret!A1") == [["no"]]


def test_a_formula_is_written_only_on_request(sheets: ServerProcess, api: FakeGoogle) -> None:
    sheets.call(
        "write_range",
        spreadsheet_id="budget-1",
        title="Party budget",
        range="D1:E1",
        rows=[['=IMAGE("https://evil.example")', "12"]],
    )
    assert cells(api)[0][3:5] == ['=IMAGE("https://evil.example")', "12"]
    error = sheets.call("write_range", spreadsheet_id="budget-1", title="Budget", range="D1", rows=[[1]])
    assert error.text == "title: the spreadsheet budget-1 is called 'Party budget', not 'Budget'; nothing was changed"
    sheets.call(
        "write_range",
        spreadsheet_id="budget-1",
        title="Party budget",
        range="D1:E1",
        rows=[["=1+1", "12"]],
        entered="user_entered",
    )
    assert cells(api)[0][3:5] == [{"formula": "=1+1", "value": 0}, 12.0]


def test_a_range_is_written_and_null_keeps_a_cell(sheets: ServerProcess, api: FakeGoogle) -> None:
    result = sheets.call(
        "write_range",
        spreadsheet_id="budget-1",
        title="Party budget",
        range="Costs!A2:C3",
        rows=[["Coffee", None, ""], [1]],
    )
    assert cells(api)[1:3] == [["Coffee", 3.5, ""], [1, 12, False]]
    assert result["cells"] == 3
    assert sheets.call(
        "write_range", spreadsheet_id="budget-1", title="Party budget", range="A1", rows=[[float("inf")]]
    ).is_error
    error = sheets.call("write_range", spreadsheet_id="budget-1", title="Party budget", range="A1:B1", rows=[[1, 2, 3]])
    assert error.text == "1 rows of 3 cells do not fit into 'Costs'!A1:B1; append_rows adds new rows"
    error = sheets.call("write_range", spreadsheet_id="budget-1", title="Party budget", range="Z1", rows=[[1, 2]])
    assert error.text == "1 rows of 2 cells do not fit into 'Costs'!Z1:Z1000; append_rows adds new rows"
    sheets.call("write_range", spreadsheet_id="budget-1", title="Party budget", range="G7", rows=[[1, 2], [3, 4]])
    assert read(sheets, "G7:H8") == [[1, 2], [3, 4]]


def test_a_range_is_cleared(sheets: ServerProcess, api: FakeGoogle) -> None:
    assert (
        sheets.call("clear_range", spreadsheet_id="budget-1", title="Party budget", range="B2:C3")["range"]
        == "Costs!B2:C3"
    )
    assert read(sheets, "A1:C4") == [["Item", "Price", "Bought"], ["Tea"], ["Cake"], ["Total", 15.5]]


def test_a_spreadsheet_is_created_with_sheets_and_rows(sheets: ServerProcess, api: FakeGoogle) -> None:
    spreadsheet = sheets.call(
        "create_spreadsheet", title="New", sheets=["One", "Two"], rows=[["a", 1, True, None], [2.5, ""]]
    )
    assert [item["title"] for item in spreadsheet["sheets"]] == ["One", "Two"]
    assert read_rows(sheets, spreadsheet["id"], "One") == [["a", 1, True], [2.5]]
    wide = sheets.call("create_spreadsheet", title="Wide", rows=[[number] * 30 for number in range(1200)])
    assert wide["sheets"] == [{"id": 0, "title": "Sheet1", "rows": 1200, "columns": 30}]
    new_sheet = sheets.call(
        "add_sheet", spreadsheet_id=spreadsheet["id"], title="New", name="Three", rows=10, columns=3
    )
    assert new_sheet.structured == {"id": 2, "title": "Three", "rows": 10, "columns": 3}
    error = sheets.call("add_sheet", spreadsheet_id=spreadsheet["id"], title="New", name="Three")
    assert error.text.startswith("the sheet 'Three': Google refused it (400)")
    assert "already exists" in error.text


def read_rows(sheets: ServerProcess, id_: str, range_: str) -> list[list[Any]]:
    rows: list[list[Any]] = sheets.call("read_range", spreadsheet_id=id_, range=range_)["rows"]
    return rows


def test_a_missing_spreadsheet_is_reported(sheets: ServerProcess) -> None:
    error = sheets.call("get_spreadsheet", spreadsheet_id="nothing-here")
    assert error.text.startswith("the spreadsheet nothing-here: not found.")
    assert sheets.call("get_spreadsheet", spreadsheet_id="a/b").is_error


def test_the_reading_variant_cannot_write(api: FakeGoogle) -> None:
    with run_server("sheets", "--read-only", google=api) as server:
        assert sorted(server.tools) == ["get_spreadsheet", "read_csv", "read_range", "read_ranges"]


BOOK = {"spreadsheet_id": "budget-1", "title": "Party budget"}


def test_rows_and_columns_are_inserted_and_deleted(sheets: ServerProcess, api: FakeGoogle) -> None:
    result = sheets.call("insert_rows_or_columns", **BOOK, range="Costs!2:3")
    assert result.structured == {"range": "'Costs'!2:3", "dimension": "rows", "count": 2}
    assert read(sheets, "Costs!A1:A4") == [["Item"], [], [], ["Tea"]]
    sheets.call("insert_rows_or_columns", **BOOK, range="B:B")
    assert read(sheets, "A1:C1") == [["Item", "", "Price"]]
    assert sheets.call("delete_rows_or_columns", **BOOK, range="Costs!2:3")["count"] == 2
    result = sheets.call("delete_rows_or_columns", **BOOK, range="Costs!B:B")
    assert result.structured == {"range": "'Costs'!B:B", "dimension": "columns", "count": 1}
    assert read(sheets, "A1:B2") == [["Item", "Price"], ["Tea", 3.5]]
    error = sheets.call("delete_rows_or_columns", **BOOK, range="Costs!A1:B2")
    assert error.text == "'Costs!A1:B2' is neither rows, such as Sheet1!5:7, nor columns, such as Sheet1!B:C"
    assert sheets.call("delete_rows_or_columns", **BOOK | {"title": "Other"}, range="2:2").is_error
    error = sheets.call("insert_rows_or_columns", **BOOK, range="Costs!996:1005")
    assert error.text == "'Costs!996:1005' ends beyond the sheet, which has 1000 rows"
    assert len(cells(api)) == 4


def sheet_titles(sheets: ServerProcess, id_: str = "budget-1") -> list[str]:
    return [item["title"] for item in sheets.call("get_spreadsheet", spreadsheet_id=id_)["sheets"]]


def test_sheets_are_renamed_moved_copied_and_deleted(sheets: ServerProcess, api: FakeGoogle) -> None:
    assert sheets.call("rename_sheet", **BOOK, sheet="costs", new_name="Spending")["title"] == "Spending"
    assert "already exists" in sheets.call("rename_sheet", **BOOK, sheet="Spending", new_name="My sheet's").text
    copied = sheets.call("copy_sheet", **BOOK, sheet="Spending", new_name="Copy")
    assert read(sheets, "Copy!A2") == [["Tea"]]
    assert copied["id"] == 2
    assert sheet_titles(sheets) == ["Spending", "My sheet's", "Copy"]
    sheets.call("move_sheet", **BOOK, sheet="Copy", position=1)
    assert sheet_titles(sheets) == ["Copy", "Spending", "My sheet's"]
    sheets.call("move_sheet", **BOOK, sheet="Copy", position=2)
    assert sheet_titles(sheets) == ["Spending", "Copy", "My sheet's"]
    sheets.call("move_sheet", **BOOK, sheet="Spending", position=3)
    assert sheet_titles(sheets) == ["Copy", "My sheet's", "Spending"]
    assert sheets.call("move_sheet", **BOOK, sheet="Copy", position=4).text == "position: the spreadsheet has 3 sheets"
    api.sheets.add("other", "Other", {"Only": [["x"]]})
    other = {"target_spreadsheet_id": "other", "target_title": "Other"}
    sheets.call("copy_sheet", **BOOK, sheet="Spending", new_name="From the budget", **other)
    assert sheets.call("copy_sheet", **BOOK, sheet="Copy", new_name="x", **other | {"target_title": "Mine"}).is_error
    assert sheets.call("copy_sheet", **BOOK, sheet="Copy", new_name="x", target_spreadsheet_id="other").is_error
    assert sheet_titles(sheets, "other") == ["Only", "From the budget"]
    assert sheets.call("copy_sheet", **BOOK, sheet="Copy", new_name="Only", **other).text.endswith("nothing was copied")
    sheets.call("delete_sheet", **BOOK, sheet="Copy")
    assert sheet_titles(sheets) == ["My sheet's", "Spending"]
    sheets.call("delete_sheet", **BOOK, sheet="Spending")
    error = sheets.call("delete_sheet", **BOOK, sheet="My sheet's")
    assert error.text == '"My sheet\'s" is the only sheet: a spreadsheet needs one'
    assert sheets.call("delete_sheet", **BOOK, sheet="Nope").text == (
        "no sheet is named 'Nope'; the spreadsheet has: My sheet's"
    )


def test_a_sheets_name_that_looks_like_a_range_is_ambiguous(sheets: ServerProcess, api: FakeGoogle) -> None:
    api.sheets.add("odd", "Odd", {"Sheet1": [["a"], ["b"]], "Sheet1!1:1": [["c"]]})
    error = sheets.call("clear_range", spreadsheet_id="odd", title="Odd", range="Sheet1!1:1")
    assert error.text == "'Sheet1!1:1' is ambiguous: write 'Sheet1!1:1' for the sheet, or 'Sheet1'!1:1"
    sheets.call("clear_range", spreadsheet_id="odd", title="Odd", range="'Sheet1'!1:1")
    assert read_rows(sheets, "odd", "Sheet1") == [[], ["b"]]
    assert read_rows(sheets, "odd", "'Sheet1!1:1'") == [["c"]]


def test_several_ranges_are_written_or_none(sheets: ServerProcess, api: FakeGoogle) -> None:
    result = sheets.call(
        "write_ranges", **BOOK, ranges=[
            {"range": "Costs!A2", "rows": [["Coffee", 4]]},
            {"range": "'My sheet''s'!A1:B1", "rows": [["p", None]]},
        ],
    )  # fmt: skip
    assert [item["cells"] for item in result["ranges"]] == [2, 1]
    assert read(sheets, "A2:B2") == [["Coffee", 4]]
    assert read(sheets, "My sheet's!A1:B1") == [["p", "y"]]
    good = {"range": "Costs!A3", "rows": [["Changed"]]}
    for bad, text in (
        ({"range": "Nope!A1", "rows": [[1]]}, "no sheet is named 'Nope'"),
        ({"range": "Costs!Z1", "rows": [[1, 2]]}, "do not fit into 'Costs'!Z1:Z1000"),
        ({"range": "Costs!A2:B3", "rows": [[1]]}, "overlap; nothing was written"),
    ):
        assert text in sheets.call("write_ranges", **BOOK, ranges=[good, bad]).text
    api.faults = [Fault("POST .*/values:batchUpdate", "somethingNew")]
    assert sheets.call("write_ranges", **BOOK, ranges=[good]).is_error
    assert read(sheets, "A3") == [["Cake"]]


def test_numbers_are_formatted_sorted_and_replaced(sheets: ServerProcess, api: FakeGoogle) -> None:
    result = sheets.call("format_numbers", **BOOK, range="Costs!B:B", format="currency", pattern="#,##0.00 €")
    assert result.structured == {"range": "'Costs'!B1:B1000", "format": "#,##0.00 €"}
    ((where, number_format),) = api.sheets.books["budget-1"]["_sheets"]["Costs"]["formats"]
    assert (where["startColumnIndex"], where["endColumnIndex"]) == (1, 2)
    assert number_format == {"numberFormat": {"type": "CURRENCY", "pattern": "#,##0.00 €"}}
    sheets.call("sort_range", **BOOK, range="Costs!A2:C3", by=[{"column": "B", "descending": True}])
    assert read(sheets, "A2:A3") == [["Cake"], ["Tea"]]
    error = sheets.call("sort_range", **BOOK, range="Costs!A2:C3", by=[{"column": "D"}])
    assert error.text == "by: the column D is not in 'Costs'!A2:C3"
    replaced = sheets.call("find_and_replace", **BOOK, find="t", replacement="7", range="Costs!A2:A4")
    assert (replaced["occurrences"], replaced["cells"]) == (3, 2)
    assert read(sheets, "A2:A4") == [["Cake"], ["7ea"], ["7o7al"]]
    assert sheets.call("find_and_replace", **BOOK, find="X", replacement="z", match_case=True)["cells"] == 0


def test_a_range_is_read_as_csv(sheets: ServerProcess, api: FakeGoogle) -> None:
    api.sheets.add("quotes", "Quotes", {"S": [['say "hi"', "a,b"], ["two\nlines", 1.5]]})
    result = sheets.call("read_csv", spreadsheet_id="quotes", range="S!A1:B2")
    assert result["csv"] == '"say ""hi""","a,b"\r\n"two\nlines",1.5\r\n'
    page = sheets.call("read_csv", spreadsheet_id="budget-1", range="Costs!A1:B4", max_rows=2)
    assert page["csv"] == "Item,Price\r\nTea,3.5\r\n"
    rest = sheets.call(
        "read_csv", spreadsheet_id="budget-1", range="Costs!A1:B4", max_rows=2, cursor=page["next_cursor"]
    )
    assert rest["csv"] == "Cake,12\r\nTotal,15.5\r\n"


def test_charts_name_their_data(sheets: ServerProcess, api: FakeGoogle) -> None:
    def source(column: int) -> dict[str, Any]:
        where = {"sheetId": 0, "startRowIndex": 0, "endRowIndex": 3, "startColumnIndex": column,
                 "endColumnIndex": column + 1}  # fmt: skip
        return {"sourceRange": {"sources": [where]}}

    api.sheets.books["budget-1"]["_sheets"]["My sheet's"]["charts"] = [
        {"chartId": 7, "spec": {"title": "Prices", "basicChart": {
            "chartType": "COLUMN", "domains": [{"domain": source(0)}], "series": [{"series": source(1)}]}}},
        {"chartId": 8, "spec": {"title": "Shares", "pieChart": {"domain": source(0), "series": source(1)}}},
    ]  # fmt: skip
    assert sheets.call("get_spreadsheet", spreadsheet_id="budget-1")["charts"] == [
        {
            "id": 7,
            "title": "Prices",
            "type": "column",
            "sheet": "My sheet's",
            "data": ["'Costs'!A1:A3", "'Costs'!B1:B3"],
        },
        {"id": 8, "title": "Shares", "type": "pie", "sheet": "My sheet's", "data": ["'Costs'!A1:A3", "'Costs'!B1:B3"]},
    ]


def test_a_spreadsheet_is_created_in_a_folder(sheets: ServerProcess, api: FakeGoogle) -> None:
    created = sheets.call(
        "create_spreadsheet", title="Plan", sheets=["One", "Two"], rows=[["a", 1], ["b"]], folder_id="folder-1"
    )
    assert [item["title"] for item in created["sheets"]] == ["One", "Two"]
    assert api.drive.files[created["id"]]["parents"] == ["folder-1"]
    assert read_rows(sheets, created["id"], "One") == [["a", 1], ["b"]]
    assert sheets.call("create_spreadsheet", title="Plan", folder_id="nowhere").is_error
    api.tokens[TOKEN].discard(f"{AUTH}drive")
    try:
        count = len(api.drive.files)
        error = sheets.call("create_spreadsheet", title="Plan", folder_id="folder-1")
        assert f'scopes = ["{AUTH}spreadsheets", "{AUTH}drive"]' in error.text
        assert len(api.drive.files) == count
    finally:
        api.tokens[TOKEN].add(f"{AUTH}drive")
