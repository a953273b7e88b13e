"""`llm-proxy reconcile`, with what it writes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.stores.ledger import NOON, open_request, settle_request
from support.stores.stores import foreign_connection, make_settings, make_token, opened

from manage_api.cli.commands import main
from store.clock import DAY
from store.ledger.usage import COST_UNIT, Source
from store.store import Store

OPTIONS = ("--day", "date", "--model", "model", "--requests", "n", "--input", "in", "--cost", "usd")
HEADER = "date,model,n,in,usd\n"
EQUAL = HEADER + "2024-10-04,gpt-4o,2,2000,0.000087\n2024-10-05,gpt-5,1,7,1000.5\n"
GPT_4O = {"usage_source": Source.OBSERVED, "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 30}
GPT_5 = {"usage_source": Source.ESTIMATED, "model": "gpt-5", "input_tokens": 7, "started_at": NOON + DAY}


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """A ledger that agrees with EQUAL."""
    with opened(make_settings(folder)) as store:
        for _ in range(2):
            settle_request(store, **GPT_4O, cost=43_500_000)
        settle_request(store, **GPT_5, cost=1000 * COST_UNIT + COST_UNIT // 2)
        yield store


def run(text: str, *arguments: str, options: tuple[str, ...] = OPTIONS) -> Result:
    Path("export.csv").write_text(text)
    return CliRunner().invoke(main, ["reconcile", "export.csv", *options, *arguments])


def body_of(text: str, *arguments: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(run(text, "--json", *arguments).stdout)
    return body


def test_what_agrees_is_the_totals_and_status_0(store: Store) -> None:
    assert store
    result = run(EQUAL)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "day    model  number            export        ledger  difference  estimated\n"
        "total         requests               3             3           0          1\n"
        "total         input              2,007         2,007           0          1\n"
        "total         cost (USD)  1,000.500087  1,000.500087    0.000000          1\n"
        "\n"
        "0 of 2 days and models differ.\n"
    )


def test_what_differs_is_shown_with_its_reasons_and_status_1(store: Store) -> None:
    settle_request(store)  # of unknown usage
    settle_request(store, **GPT_4O)  # unpriced
    open_request(store, model="gpt-4o")
    result = run(EQUAL.replace("0.000087", "0.0000870001"))
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == (
        "day         model   number                export        ledger    difference"
        "  running  estimated  unknown  unpriced\n"
        "2024-10-04  -       requests                   0             1            -1"
        "        0          0        1         0\n"
        "2024-10-04  gpt-4o  requests                   2             4            -2"
        "        1          0        0         1\n"
        "2024-10-04  gpt-4o  input                  2,000         3,000        -1,000"
        "        1          0        0         1\n"
        "2024-10-04  gpt-4o  cost (USD)      0.0000870001      0.000087  0.0000000001"
        "        1          0        0         1\n"
        "total               requests                   3             6            -3"
        "        1          1        1         1\n"
        "total               input                  2,007         3,007        -1,000"
        "        1          1        1         1\n"
        "total               cost (USD)  1,000.5000870001  1,000.500087  0.0000000001"
        "        1          1        1         1\n"
        "\n"
        "2 of 3 days and models differ.\n"
    )


def test_requests_without_a_model_explain_a_day_that_differs(store: Store) -> None:
    settle_request(store)
    settle_request(store, started_at=NOON + DAY)
    options = ("--day", "date", "--model", "model", "--input", "in")
    result = run(EQUAL.replace("2000", "2500"), "--format", "csv", options=options)
    assert result.stdout_bytes.decode() == (
        "day,model,number,export,ledger,difference,in_flight,estimated,unknown,unpriced\r\n"
        "2024-10-04,,requests,,1,,0,0,1,0\r\n"
        "2024-10-04,gpt-4o,input_tokens,2500,2000,500,0,0,0,0\r\n"
    )
    assert run(EQUAL, options=options).exit_code == 0


def test_a_group_of_one_side_alone_differs(store: Store) -> None:
    assert store
    lines = body_of(HEADER + "2024-10-04,Gpt-4o,2,2000,0.000087\n")["lines"]
    assert [(line["model"], line["number"], line["export"], line["ledger"]) for line in lines] == [
        ("Gpt-4o", "requests", 2, 0),
        ("Gpt-4o", "input_tokens", 2000, 0),
        ("Gpt-4o", "cost_usd", "0.000087", None),
        ("gpt-4o", "requests", 0, 2),
        ("gpt-4o", "input_tokens", 0, 2000),
        ("gpt-4o", "cost_usd", "0", "0.000087"),
    ]


def test_json_has_the_period_and_the_totals(store: Store) -> None:
    assert store
    assert body_of(EQUAL.replace("2000", "1999")) == {
        "from": "2024-10-04",
        "to": "2024-10-06",
        "group_by": ["day", "model"],
        "groups": 2,
        "different_groups": 1,
        "totals": [
            {"number": name, "export": export, "ledger": ledger, "difference": difference, **reasons}
            for reasons in [{"in_flight": 0, "estimated": 1, "unknown": 0, "unpriced": 0}]
            for name, export, ledger, difference in [
                ("requests", 3, 3, 0),
                ("input_tokens", 2006, 2007, -1),
                ("cost_usd", "1000.500087", "1000.500087", "0"),
            ]
        ],
        "lines": [
            {
                "day": "2024-10-04",
                "model": "gpt-4o",
                "number": "input_tokens",
                "export": 1999,
                "ledger": 2000,
                "difference": -1,
                "in_flight": 0,
                "estimated": 0,
                "unknown": 0,
                "unpriced": 0,
            }
        ],
    }


def test_all_shows_what_agrees_too(store: Store) -> None:
    assert store
    result = run(EQUAL, "--all", "--format", "csv")
    lines = result.stdout_bytes.decode().split("\r\n")
    assert (result.exit_code, len(lines)) == (0, 1 + 6 + 1)
    assert lines[3] == "2024-10-04,gpt-4o,cost_usd,0.000087,0.000087,0,0,0,0,0"


def test_a_formula_in_a_name_is_no_formula_in_csv(store: Store) -> None:
    assert store
    result = run(EQUAL + '2024-10-05,"=HYPERLINK(1)",1,,\n', "--format", "csv")
    assert "\r\n2024-10-05,'=HYPERLINK(1),requests,1,0,1," in result.stdout_bytes.decode()


def test_days_are_compared_where_no_model_is_named(store: Store) -> None:
    assert store
    text = EQUAL.replace("gpt-4o", "GPT-4o").replace("gpt-5", "GPT-5")
    days = ("--day", "date", "--requests", "n")
    for options in (days, (*OPTIONS, "--by", "day")):
        result = run(text, options=options)
        assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "0 of 2 days differ.")
    result = run(text.replace("GPT-5,1", "GPT-5,2"), options=days)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "1 of 2 days differs.")
    assert result.stdout.startswith(
        "day         number    export  ledger  difference  estimated\n2024-10-05  requests "
    )


def test_the_period_is_that_of_the_file_unless_it_is_named(store: Store) -> None:
    settle_request(store, **GPT_4O, started_at=NOON + 2 * DAY)
    assert run(EQUAL).exit_code == 0
    assert body_of(EQUAL, "--to", "2024-10-07")["different_groups"] == 1
    assert body_of(EQUAL, "--from", "2024-10-01", "--to", "2024-10-05")["groups"] == 1
    assert body_of(EQUAL, "--from", "2024-10-05")["from"] == "2024-10-05"
    assert run(HEADER, "--from", "2024-10-04", "--to", "2024-10-05").exit_code == 1
    for period in ((), ("--from", "2024-10-04"), ("--to", "2024-10-04")):
        result = run(HEADER, *period)
        assert (result.exit_code, "the file has no row in the period" in result.stderr) == (2, True)
    assert run(EQUAL, "--from", "2024-10-06").exit_code == 2


def test_the_ledger_is_filtered(store: Store) -> None:
    token = make_token(store)
    settle_request(store, **GPT_4O, project_id=token.project_id, token_id=token.id, endpoint="/v1/embeddings")
    text = HEADER + "2024-10-04,gpt-4o,1,1000,0\n"
    for filters in (("--project", token.project_id), ("--endpoint", "/v1/embeddings")):
        assert run(text, *filters).exit_code == 0
    assert run(text).exit_code == 1
    result = run(text, "--project", "0")
    assert (result.exit_code, "no project has this name or id" in result.stderr) == (2, True)


def test_a_tolerance_lets_rounded_costs_agree(store: Store) -> None:
    assert store
    rounded = EQUAL.replace("0.000087", "0.01").replace("1000.5", '"$1,000.50"')
    assert run(rounded).exit_code == 1
    assert run(rounded, "--cost-tolerance", "0.01").exit_code == 0


def test_columns_replace_those_of_a_preset(store: Store) -> None:
    assert store
    text = "usage_date_utc,cost_usd,total\n2024-10-04,5,0.000087\n"
    assert run(text, options=("--preset", "anthropic-costs", "--cost", "total")).exit_code == 0
    assert run(text, options=("--preset", "anthropic-costs")).exit_code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Name the column of the day by --day, or a --preset."),
        (("--day", "date"), "Name a column to compare: --requests, --input, --cached-input, --output,"),
        (("--day", "date", "--cost", "usd", "--by", "day,model"), "Name the column of the model by --model, or"),
        (("--preset", "openai-costs", "--by", "day,model"), "Name the column of the model by --model, or"),
        (("--preset", "other"), "'openai-completions', 'openai-costs',"),
        ((*OPTIONS, "--by", "model"), "'day,model', 'day'"),
        ((*OPTIONS, "--from", "2024-10-04T01:00:00Z"), "a day such as 2026-11-25; days are UTC"),
        ((*OPTIONS, "--from", "2024-10-05", "--to", "2024-10-05"), "--from must be before --to"),
        ((*OPTIONS, "--cost-tolerance", "1 cent"), "an amount of US dollars such as 0.01"),
        ((*OPTIONS, "--output", "out"), "'FILE': line 1: no column is named 'out'; the columns: date, model, n, in,"),
    ],
)
def test_a_bad_option_is_an_error(store: Store, options: tuple[str, ...], message: str) -> None:
    assert store
    result = run(EQUAL, options=options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_file_counts_from_the_callers_folder(store: Store, folder: Path) -> None:
    assert store
    caller = folder / "caller"
    caller.mkdir()
    (caller / "mine.csv").write_text(EQUAL)
    result = CliRunner().invoke(main, ["--caller", str(caller), "reconcile", "mine.csv", *OPTIONS])
    assert result.exit_code == 0
    missing = CliRunner().invoke(main, ["reconcile", "mine.csv", *OPTIONS])
    assert (missing.exit_code, "cannot be read: No such file or directory" in missing.stderr) == (2, True)


def test_a_fault_of_the_store_is_an_error(store: Store) -> None:
    with foreign_connection(store) as connection:
        connection.execute("DROP TABLE request")
    result = run(EQUAL)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "The store does not answer: no such table: request.\n"
