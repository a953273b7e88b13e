"""Each unit of usage has columns in the ledger, its sums and its reports; exceptions are named here."""

import dataclasses

import pytest

from store.database.models import DailyUsage, HourlyUsage, Request
from store.ledger.usage import COLUMNS
from store.reports.request_list import RequestRecord
from store.reports.usage_totals import UsageSums


@pytest.mark.parametrize("model", [Request, HourlyUsage, DailyUsage])
def test_every_unit_has_a_column_in_the_ledgers_tables(model: type[Request | HourlyUsage | DailyUsage]) -> None:
    assert {*COLUMNS} <= {*model._meta.fields}  # noqa: SLF001 - peewee's interface to a model's fields


def test_every_unit_is_shown_in_reports_and_lists() -> None:
    assert {*COLUMNS} <= {*UsageSums._fields}
    assert {*COLUMNS} <= {field.name for field in dataclasses.fields(RequestRecord)}
