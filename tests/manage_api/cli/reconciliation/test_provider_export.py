import codecs
from decimal import Decimal
from pathlib import Path

import click
import pytest

from manage_api.cli.reconciliation import provider_export
from manage_api.cli.reconciliation.columns import Columns
from manage_api.cli.reconciliation.provider_export import GroupKey, ProviderUsage
from store.clock import DAY, from_rfc3339

FIRST = from_rfc3339("2026-10-01")
COLUMNS = Columns("date", "model", {"input_tokens": ["fresh", "cached"], "cost_usd": ["usd"]})
TEXT = "date,model,fresh,cached,usd\n2026-10-01,gpt-4o,10,5,0.5\n2026-10-03,gpt-5,1,0,0.25\n"
GROUPS = {
    GroupKey(FIRST, "gpt-4o"): {"input_tokens": Decimal(15), "cost_usd": Decimal("0.5")},
    GroupKey(FIRST + 2 * DAY, "gpt-5"): {"input_tokens": Decimal(1), "cost_usd": Decimal("0.25")},
}


def read(
    tmp_path: Path, text: str | bytes, columns: Columns = COLUMNS, start: int | None = None, end: int | None = None
) -> ProviderUsage:
    path = tmp_path / "export.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return provider_export.read(path, columns, start, end)


def error(tmp_path: Path, text: str | bytes, columns: Columns = COLUMNS) -> str:
    with pytest.raises(click.BadParameter) as raised:
        read(tmp_path, text, columns)
    assert raised.value.param_hint == "'FILE'"
    return raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\n\n") + ",,,,\n",
        TEXT.replace(",", ";"),
        TEXT.replace(",", "\t"),
        TEXT.replace(",", " ; "),
        TEXT.replace("gpt-4o", '"gpt-4o"').replace("date,", '"date",'),
        TEXT.replace("date", "Date").replace("model", "MODEL"),
        TEXT.replace("date,", '"a;b;c;d;e;f",date,').replace("2026", '"x,""y",2026'),
        TEXT.rstrip("\n"),
    ],
)
def test_all_usual_forms_of_csv_are_read(tmp_path: Path, text: str | bytes) -> None:
    usage = read(tmp_path, text)
    assert (usage.start, usage.end) == (FIRST, FIRST + 3 * DAY)
    assert usage.groups == GROUPS


def test_rows_of_a_day_and_a_model_are_added_up_exactly(tmp_path: Path) -> None:
    rows = "2026-10-01T00:01:00Z,gpt-4o,1,,0.1\n1790812800,gpt-4o,,2,0.2\n" * 5000
    usage = read(tmp_path, f"date,model,fresh,cached,usd\n{rows}")
    assert usage.groups == {GroupKey(FIRST, "gpt-4o"): {"input_tokens": 15_000, "cost_usd": Decimal(1500)}}


def test_an_exact_name_goes_before_one_in_another_case(tmp_path: Path) -> None:
    usage = read(tmp_path, "Day,day,n\nx,2026-10-01,3\n", Columns("day", None, {"requests": ["N"]}))
    assert usage.groups == {GroupKey(FIRST, None): {"requests": 3}}


def test_a_model_without_a_name_is_unknown(tmp_path: Path) -> None:
    usage = read(tmp_path, "date,model,fresh,cached,usd\n2026-10-01, ,1,1,\n")
    assert usage.groups == {GroupKey(FIRST, None): {"input_tokens": 2}}


def test_a_row_without_numbers_only_extends_the_period(tmp_path: Path) -> None:
    usage = read(tmp_path, TEXT + "2026-10-09,,,,\n")
    assert (usage.end, usage.groups) == (FIRST + 9 * DAY, GROUPS)


def test_rows_outside_of_the_period_are_left_out(tmp_path: Path) -> None:
    keys = list(GROUPS)
    assert list(read(tmp_path, TEXT, start=FIRST + DAY).groups) == keys[1:]
    assert list(read(tmp_path, TEXT, end=FIRST + 2 * DAY).groups) == keys[:1]
    assert read(tmp_path, TEXT, end=FIRST).groups == {}


def test_a_file_without_rows_tells_of_no_days(tmp_path: Path) -> None:
    assert read(tmp_path, "date,model,fresh,cached,usd\n") == ProviderUsage()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file has no header."),
        ("\n", "the file has no header."),
        ("a,b\x1b,c\n", "line 1: no column is named 'date'; the columns: a, b\ufffd, c."),
        (TEXT.replace("usd", "eur"), "line 1: no column is named 'usd'; the columns: date, model, fresh,"),
        (TEXT.replace("usd", "cached"), "line 1: several columns are named 'cached'; the columns: "),
        (TEXT.replace(",0.25", ""), "line 3: 4 cells, and the header has 5."),
        (TEXT.replace("0.25", "0.25,"), "line 3: 6 cells, and the header has 5."),
        (TEXT.replace("2026-10-03", "10/03/26"), "line 3: '10/03/26' in the column date is no day (2026-10-01), time"),
        (TEXT.replace("0.25", "\u20ac0\x1b"), "line 3: '\u20ac0\ufffd' in the column usd is no amount of US dollars"),
        (TEXT.replace("10,5", "10,5.5"), "line 2: '5.5' in the column cached is no whole number, such as 1234."),
        (TEXT.replace("gpt-5", '"gpt-5'), "line 3: unexpected end of data."),
        (TEXT.replace("gpt-4o", '"a\nb"').replace("0.25", "x"), "line 4: 'x' in the column usd"),
        (TEXT.encode("utf-16"), "the file is no text in UTF-8."),
        (TEXT.replace("gpt-5", "x" * 200_000), "line 3: field larger than field limit (131072)."),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert error(tmp_path, text).startswith(message)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "no.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(click.BadParameter, match=f"the file cannot be read: {problem}"):
            provider_export.read(path, COLUMNS, None, None)


def test_too_many_groups_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_export, "MAX_GROUPS", 1)
    assert error(tmp_path, TEXT) == "the file has more than 1 days and models."
