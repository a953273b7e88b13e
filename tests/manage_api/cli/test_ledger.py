"""`llm-proxy usage` and `llm-proxy requests`."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.stores.ledger import NOON, PROJECT_ID, TOKEN_ID, open_request, refuse_request, settle_request
from support.stores.stores import API_KEY, foreign_connection, make_settings, make_token, opened

from manage_api.cli import reading
from manage_api.cli.commands import main
from store import clock
from store.clock import DAY, HOUR
from store.ledger.usage import Source
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.reports import usage_report
from store.store import Store

UNKNOWN = str(uuid.UUID(int=9))
KNOWN = {"usage_source": Source.OBSERVED, "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 30}


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with opened(make_settings(folder)) as store:
        yield store


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_usage_is_printed_as_a_table(store: Store) -> None:
    token = make_token(store)
    settle_request(store, project_id=token.project_id, token_id=token.id, **KNOWN, cost=43_500_000)
    open_request(store)
    result = run("usage")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "project                               model   requests  running  input  output  cost (USD)\n"
        "Tests                                 gpt-4o         1        0  1,000      30    0.000044\n"
        f"{PROJECT_ID}  -              1        1      -       -           -\n"
        "total                                                2        1  1,000      30    0.000044\n"
    )
    assert "unpriced" not in result.stdout


def test_on_a_narrow_terminal_ids_are_left_out_where_names_tell_tokens_apart(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_token(store, name="Ann")
    second = make_token(store, name="Ben", project_id=first.project_id)
    for token in (first, second):
        settle_request(store, project_id=token.project_id, token_id=token.id, **KNOWN, cost=3_000_000)
    refuse_request(store, project_id=first.project_id, token_id=first.id)
    monkeypatch.setattr("manage_api.cli.table.terminal_width", lambda: 100)

    def titles() -> list[str]:
        return re.split("  +", run("usage", "--by", "token,model").stdout.splitlines()[0])

    columns = ["requests", "refused", "input", "output", "cost (USD)"]
    assert titles() == ["project", "token name", "model", *columns]
    run("token", "update", second.id, "--name", "Ann")
    assert "token" in titles()


def test_on_a_narrow_terminal_what_a_filter_tells_is_left_out_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token(store, name="Ann")
    refuse_request(store, project_id=token.project_id, token_id=token.id, repeats=12)
    monkeypatch.setattr("manage_api.cli.table.terminal_width", lambda: 118)

    def titles(*arguments: str) -> set[str]:
        return {*map(str.strip, run("request", "list", *arguments).stdout.splitlines()[0].split("  "))}

    assert "token name" in titles()
    assert not {"token name", "project", "token"} & titles("--token", "Ann")
    assert {"times", "request"} <= titles("--token", "Ann")


def test_projects_with_the_same_name_show_their_ids(store: Store) -> None:
    """In the report, where they are side by side; so is one that was deleted."""
    first, second, other, unused = (make_token(store) for _ in range(4))
    for token, name in ((first, "Same"), (second, "Same"), (other, "Other"), (unused, "Other")):
        Projects(store).update(token.project_id, {"name": name})
    for number, token in enumerate((first, second, other)):
        mine = {"project_id": token.project_id, "token_id": token.id}
        settle_request(store, **mine, **KNOWN, cost=9_000_000 - number)
        settle_request(store, **mine, usage_source=Source.OBSERVED, model="gpt-5", input_tokens=1, cost=5 - number)
    Projects(store).delete(second.project_id)
    by_project = run("usage").stdout.splitlines()
    names = [f"Same ({first.project_id})", f"Same ({second.project_id})", "Other"]
    assert [line.partition("  ")[0] for line in by_project] == ["project", *names, *names, "total"]
    by_token = run("usage", "--by", "token").stdout.splitlines()
    assert [line.partition("  ")[0] for line in by_token] == ["project", *names, "total"]
    assert run("usage", "--project", first.project_id).stdout.splitlines()[1].startswith("Same  ")


def test_usage_by_token_shows_names_beside_ids(store: Store) -> None:
    first = make_token(store, name="Ann\x1b")
    second, third = (make_token(store, name=name, project_id=first.project_id) for name in ("Ann\x1b", None))
    for number, token in enumerate((first, second, third)):
        settle_request(store, project_id=token.project_id, token_id=token.id, **KNOWN, cost=3_000_000 - number)
    assert run("usage", "--by", "token,model").stdout == (
        "project  token                                 token name  model   requests  input  output  cost (USD)\n"
        f"Tests    {first.id}  Ann\ufffd        gpt-4o         1  1,000      30    0.000003\n"
        f"Tests    {second.id}  Ann\ufffd        gpt-4o         1  1,000      30    0.000003\n"
        f"Tests    {third.id}  -           gpt-4o         1  1,000      30    0.000003\n"
        "total                                                                     3  3,000      90    0.000009\n"
    )


def test_a_deleted_token_is_shown_with_its_name(store: Store) -> None:
    token = make_token(store, name="Ann")
    settle_request(store, project_id=token.project_id, token_id=token.id)
    Projects(store).delete(token.project_id)
    assert f"{token.id}  Ann " in run("usage", "--by", "token").stdout
    assert f"{token.id},Ann," in run("usage", "--by", "token", "--format", "csv").stdout


def test_usage_without_requests_is_a_table_of_zeros(store: Store) -> None:
    assert store
    assert run("usage", "--by", "token,day").stdout == (
        "project  token  day  requests  input  output  cost (USD)\n"
        "total                       0      0       0           -\n"
    )


def test_usage_is_printed_as_json_and_csv(store: Store) -> None:
    settle_request(store, **KNOWN, cost=43_500_000)
    settle_request(store, started_at=NOON + DAY)
    body = json.loads(run("usage", "--by", "day", "--format", "json").stdout)
    assert [(group["day"], group["cost_usd"]) for group in body["groups"]] == [
        ("2024-10-04", "0.0000435"),
        ("2024-10-05", None),
    ]
    lines = run("usage", "--by", "day", "--format", "csv").stdout_bytes.split(b"\r\n")
    assert lines[0].startswith(b"day,requests,")
    assert [line[:13] for line in lines[1:]] == [b"2024-10-04,1,", b"2024-10-05,1,", b""]


def test_usage_by_day_is_that_of_a_time_zone(store: Store) -> None:
    for hour in (9, 10, 33, 34):  # 21, 22, 45 and 46 o'clock in UTC
        settle_request(store, started_at=NOON + hour * HOUR)
    berlin = ("--timezone", "Europe/Berlin", "--by", "day")
    assert [line.split()[:2] for line in run("usage", *berlin).stdout.splitlines()[1:]] == [
        ["2024-10-04", "1"],
        ["2024-10-05", "2"],
        ["2024-10-06", "1"],
        ["total", "4"],
    ]
    for arguments in ((*berlin, "--from", "2024-10-05"), ("--from", "2024-10-05", *berlin)):
        body = json.loads(run("usage", *arguments, "--to", "2024-10-06", "--format", "json").stdout)
        assert (body["timezone"], body["totals"]["requests"]) == ("Europe/Berlin", 2)
        assert (body["from"], body["to"]) == ("2024-10-04T22:00:00.000000Z", "2024-10-05T22:00:00.000000Z")


def test_csv_for_excel_has_a_byte_order_mark(store: Store) -> None:
    settle_request(store)
    plain, excel = (run("usage", "--format", form).stdout_bytes for form in ("csv", "csv-excel"))
    assert excel == b"\xef\xbb\xbf" + plain


def test_a_token_with_refused_requests_alone_is_found(store: Store) -> None:
    token = make_token(store)
    refuse_request(store, project_id=token.project_id, token_id=token.id)
    Projects(store).delete(token.project_id)
    result = run("usage", "--by", "token", "--token", token.id)
    assert (result.exit_code, result.stdout.splitlines()[1].split()[:4]) == (0, ["Tests", token.id, "0", "1"])


def test_usage_is_filtered(store: Store) -> None:
    token = make_token(store)
    settle_request(store, project_id=token.project_id, token_id=token.id)
    settle_request(store, **KNOWN, started_at=NOON + DAY, endpoint="/v1/embeddings")
    for filters in (
        ("--token", token.value),
        ("--token", token.id.upper()),
        ("--project", PROJECT_ID),
        ("--model", "gpt-4o"),
        ("--endpoint", "/v1/embeddings"),
        ("--from", "2024-10-05"),
        ("--to", "2024-10-04T23:00:00-01:00"),
    ):
        result = run("usage", *filters, "--format", "json")
        assert json.loads(result.stdout)["totals"]["requests"] == 1, filters


def test_requests_are_printed_as_a_table_and_as_json_lines(store: Store) -> None:
    settled = settle_request(store, **KNOWN, duration_ms=1900, cost=43_500_000)
    running = open_request(store, started_at=NOON + DAY, endpoint="/v1/models")
    titles, first, second = run("requests").stdout.splitlines()
    assert " ".join(titles.split()) == (
        "started status ms endpoint model input output cost (USD) usage project token request"
    )
    assert first.split() == [
        *("2024-10-05T12:00:00Z", "-", "-", "/v1/models", "-", "-", "-", "-"),
        *("open", PROJECT_ID, TOKEN_ID, running["id"]),
    ]
    assert second.split() == [
        *("2024-10-04T12:00:00Z", "200", "1,900", "/v1/chat/completions", "gpt-4o", "1,000", "30", "0.000044"),
        *("observed", PROJECT_ID, TOKEN_ID, settled["id"]),
    ]
    (line,) = run("requests", "--limit", "1", "--format", "jsonl").stdout.splitlines()
    assert json.loads(line)["id"] == running["id"]


def test_refused_requests_are_listed_beside_the_others(store: Store) -> None:
    token = make_token(store, name="Ann's laptop")
    settle_request(store, **KNOWN, duration_ms=1900)
    refused = refuse_request(store, project_id=token.project_id, token_id=token.id, started_at=NOON + DAY, repeats=12)
    titles, first, second = run("requests").stdout.splitlines()
    assert " ".join(titles.split()) == (
        "started status code times ms endpoint model input output cost (USD) usage project token token name request"
    )
    assert first.split() == [
        *("2024-10-05T12:00:00Z", "429", "rate_limit_exceeded", "12", "-", "/v1/chat/completions", "-", "-", "-", "-"),
        *("-", "Tests", token.id, "Ann's", "laptop", refused["id"]),
    ]
    assert second.split()[1:4] == ["200", "-", "-"]
    assert len(run("requests", "--code", "rate_limit_exceeded").stdout.splitlines()) == 2
    usage = run("usage", "--by", "token", "--token", token.id).stdout.splitlines()
    assert usage[0].split()[-5:] == ["refused", "input", "output", "cost", "(USD)"]
    assert usage[1].split()[-5:] == ["0", "12", "0", "0", "-"]


def test_a_request_that_the_gateway_ended_is_listed_with_its_code_and_its_usage(store: Store) -> None:
    settle_request(store, **KNOWN, code="token_inactive")
    refuse_request(store)
    _, line = run("requests", "--code", "token_inactive").stdout.splitlines()
    assert line.split()[1:3] == ["200", "token_inactive"]
    assert KNOWN["usage_source"] in line.split()


@pytest.mark.parametrize("upstream_id", ["req_1", "a/b c"])
def test_a_request_is_shown_by_either_id(store: Store, upstream_id: str) -> None:
    row = settle_request(store, **KNOWN, upstream_request_id=upstream_id, price='{"input": "2.5"}', streamed=True)
    shown = [run("request", "show", text) for text in (row["id"], upstream_id)]
    assert shown[0].stdout == shown[1].stdout
    fields = dict(line.split(maxsplit=1) for line in shown[0].stdout.splitlines())
    assert (fields["id"], fields["upstream_request_id"], fields["code"]) == (row["id"], upstream_id, "-")
    assert (fields["price"], fields["input_tokens"], fields["streamed"]) == ('{"input": "2.5"}', "1000", "true")
    as_json = json.loads(run("request", "show", upstream_id, "--format", "json").stdout)
    assert list(as_json) == [name for name in fields if name != "field"]


def test_an_unknown_request_is_an_error(store: Store) -> None:
    settle_request(store)
    result = run("request", "show", "req_1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("There is no such request")


def test_requests_are_filtered(store: Store) -> None:
    token = make_token(store)
    settle_request(store, **KNOWN, token_id=token.id, status=429)
    settle_request(store, started_at=NOON - 1)
    open_request(store)
    for filters in (("--usage", "open"), ("--usage", "observed"), ("--status", "429"), ("--token", token.value)):
        assert len(run("requests", *filters, "--format", "jsonl").stdout.splitlines()) == 1, filters
    assert run("requests", "--to", "2024-10-04", "--format", "jsonl").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["usage", "--by", "colour"], "any of month, week, day, hour, project"),
        (["usage", "--by", ""], "any of month, week, day, hour, project"),
        (["usage", "--from", "yesterday"], "a date such as"),
        (["usage", "--since", "7 weeks"], "a duration such as 7d, 12h or 30m"),
        (["usage", "--token", "secret-by-mistake"], "no token has this name, id or value."),
        (["usage", "--format", "jsonl"], "'table', 'csv', 'csv-excel', 'json'"),
        (["usage", "--timezone", "secret-by-mistake"], "the IANA name of a time zone, such as Europe/Berlin"),
        (["usage", "--timezone", "/etc/passwd"], "the IANA name of a time zone"),
        (["usage", "--from", "yesterday", "--timezone", "Europe/Berlin"], "a date such as"),
        (["requests", "--timezone", "UTC"], "No such option"),
        (["requests", "--limit", "1001"], "1<=x<=1000"),
        (["requests", "--code", "other"], "'token_inactive', 'token_expired'"),
        (["requests", "--usage", "OBSERVED"], "'observed', 'estimated', 'unknown', 'open'"),
    ],
)
def test_a_bad_option_is_an_error(store: Store, arguments: list[str], message: str) -> None:
    assert store
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.parametrize("command", ["usage", "requests"])
@pytest.mark.parametrize(
    ("start", "end"),
    [("2024-10-05", "2024-10-04"), ("2024-10-05", "2024-10-05"), ("2024-10-05T01:00:00+02:00", "2024-10-04T23:00:00Z")],
)
def test_an_empty_time_range_is_an_error(store: Store, command: str, start: str, end: str) -> None:
    settle_request(store)
    for arguments in (("--from", start, "--to", end), ("--to", end, "--from", start)):
        result = run(command, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--from must be before --to" in result.stderr
    assert run(command, "--from", "2024-10-04", "--to", "2024-10-04T00:00:00.000001Z").exit_code == 0


@pytest.mark.parametrize("command", ["usage", "requests"])
@pytest.mark.parametrize("given", [UNKNOWN, "support", "\udcff"])
def test_the_error_for_an_unknown_project_lists_the_projects(store: Store, command: str, given: str) -> None:
    first, second, gone = (Projects(store).create(name, API_KEY) for name in ("Support", "Search\x1b[2J", "Gone"))
    token = Tokens(store).create(gone.id)
    settle_request(store, project_id=gone.id, token_id=token.id)
    Projects(store).delete(gone.id)
    result = run(command, "--project", given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(
        "Error: Invalid value for '--project': no project has this name or id. The projects:\n\n"
        "id                                    name\n"
        f"{gone.id}  Gone\n{second.id}  Search\ufffd[2J\n{first.id}  Support\n"
    )
    for known in (first.id, gone.id.upper(), "Support", "Gone"):
        assert run(command, "--project", known).exit_code == 0


@pytest.mark.parametrize(
    ("number", "end"), [(0, "has this name or id. There is none yet."), (23, "Project 19\nand 3 more")]
)
def test_no_project_or_many_projects_are_listed(store: Store, number: int, end: str) -> None:
    for each in range(number):
        Projects(store).create(f"Project {each:02}", API_KEY)
    message = run("usage", "--project", UNKNOWN).stderr
    assert message.endswith(f"{end}\n")
    assert message.count("Project ") == min(number, 20)


@pytest.mark.parametrize("command", ["usage", "requests"])
def test_an_unknown_token_is_an_error_and_a_deleted_one_is_found(store: Store, command: str) -> None:
    token = make_token(store)
    settle_request(store, project_id=token.project_id, token_id=token.id)
    Projects(store).delete(token.project_id)
    assert run(command, "--token", token.id).exit_code == 0
    for unknown in (UNKNOWN, token.value):
        result = run(command, "--token", unknown)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.endswith("Invalid value for '--token': no token has this name, id or value.\n")


@pytest.mark.parametrize("command", [["usage"], ["requests"], ["request", "list"]])
def test_names_are_taken_where_ids_are_and_durations_where_times_are(store: Store, command: list[str]) -> None:
    token = make_token(store, name="Ann's laptop")
    mine = {"project_id": token.project_id, "token_id": token.id, "model": "mine"}
    settle_request(store, **mine, started_at=clock.now() - HOUR)
    settle_request(store, **mine, started_at=clock.now() - 3 * DAY)
    settle_request(store, model="another")
    for arguments, shown in (
        (["--project", "Tests"], 2),
        (["--token", "Ann's laptop"], 2),
        (["--token", "Ann's laptop", "--since", "2d"], 1),
        (["--token", "Ann's laptop", "--until", "90m"], 1),
        (["--from", "1d", "--to", "30m"], 1),
    ):
        body = json.loads(run(*command, *arguments, "--json").stdout)
        assert (body["totals"]["requests"] if "usage" in command else len(body)) == shown, arguments
    assert run("project", "delete", "Tests", "--yes").exit_code == 0
    assert "mine" in run(*command, *(["--by", "model"] if "usage" in command else []), "--token", "Ann's laptop").stdout


def test_a_word_that_is_no_command_is_the_id_of_a_request(store: Store) -> None:
    row = settle_request(store, **KNOWN, upstream_request_id="req_1")
    assert run("request", "req_1").stdout == run("request", "show", row["id"]).stdout
    assert json.loads(run("request", "req_1", "--json").stdout)["id"] == row["id"]
    assert run("request", "req_2").exit_code == 1


def test_a_report_that_is_too_large_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_request(store)
    monkeypatch.setattr(usage_report, "MAX_GROUPS", 0)
    result = run("usage")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "The report has more than 0 groups: group by less, or for a shorter time.\n"


def test_a_fault_of_the_store_is_an_error(store: Store) -> None:
    with foreign_connection(store) as connection:
        connection.execute("DROP TABLE request")
    result = run("requests")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "The store does not answer: no such table: request.\n"


def test_a_store_that_cannot_be_opened_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(SystemExit) as ended:
        reading.run(make_settings(tmp_path), lambda _: "")
    assert ended.value.code == 1
    assert "Not a directory" in capsys.readouterr().err
