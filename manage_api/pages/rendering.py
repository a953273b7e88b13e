"""Words and numbers of the templates: times, amounts, bars.

Each element carries its exact value in a form for machines, so that pages.js can show it in the reader's locale.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import flask
import jinja2
from markupsafe import Markup, escape

from manage_api import words
from manage_api.pages import filters, gate, protection
from store import clock
from store.limits.standing import LimitStanding
from store.management.admin_sessions import AdminSessions
from store.money import decimal_text, usd
from store.version import __version__

NAVIGATION: Sequence[tuple[str, str]] = (
    ("overview", "Overview"),
    ("projects", "Projects"),
    ("tokens", "Tokens"),
    ("requests", "Requests"),
    ("reports", "Reports"),
    ("audit", "Audit"),
    ("prices", "Prices"),
    ("admins", "Administrators"),
    ("status", "Status"),
)
"""The parts of the desk: the name of each blueprint, whose page `index` is the first one, and its title."""

DONE: Mapping[str, str] = {
    "created": "It is created.",
    "changed": "The changes are saved.",
    "deleted": "It is deleted.",
    "admin-enabled": "The administrator is enabled.",
    "admin-disabled": "The administrator is disabled: the token is refused from now on.",
    "price-set": "The price is set: it holds for requests that end from now on.",
    "logged-out": "All sessions of the administrator are ended.",
    "session-ended": "The session is ended.",
    "all-revoked": "All tokens of the project are revoked: requests with them are refused from now on.",
    "revoked": "Revoked: requests are refused from now on, and running ones end within a second.",
    "restored": "The token is restored.",
    "found": "This is the token with that value.",
}
"""The messages after a form, by the parameter `done` of the page that follows it."""

NONE = "\N{EN DASH}"
"""Stands for a value that there is not."""

_CENTS = Decimal("0.01")
_SMALL = Decimal("0.0001")
_EXACT = Decimal("0.000000000001")
_SECOND, _MINUTE = 1000, 60_000


def register(routes: flask.Blueprint, sessions: AdminSessions) -> None:
    """Give the templates of the pages their filters and variables."""
    for name, function in _FILTERS.items():
        routes.add_app_template_filter(function, name)
    routes.record_once(lambda state: _set_up(state.app.jinja_env))

    @routes.app_context_processor
    def variables() -> dict[str, object]:
        common: dict[str, object] = {"version": __version__, "form_field": protection.FIELD, "done": None}
        if "entered" in flask.g:
            common |= {
                "administrator": gate.administrator(),
                "may_write": gate.may_write(),
                "navigation": NAVIGATION,
                "done": DONE.get(flask.request.args.get("done", "")),
                "part": (flask.request.blueprint or "").rpartition(".")[2],
                "new_form": lambda: protection.new_field(sessions, gate.entered().session_id),
            }
        return common


def _set_up(environment: jinja2.Environment) -> None:
    environment.undefined = jinja2.StrictUndefined
    environment.globals["address"] = filters.address
    environment.trim_blocks = environment.lstrip_blocks = True


def moment(microseconds: int | None, default: str = NONE) -> Markup:
    """Return a time: UTC; the reader's own is put beside it."""
    if microseconds is None:
        return escape(default)
    if microseconds >= clock.NEVER:
        return Markup("never")
    text = clock.to_rfc3339(microseconds)
    shown = text[:-1].replace("T", " ")
    return Markup('<time datetime="{}">{} UTC</time>').format(text, shown)


def number(value: int | None, default: str = NONE) -> Markup:
    """Return a whole number, in groups of three digits."""
    return escape(default) if value is None else Markup('<data value="{}">{}</data>').format(value, f"{value:,}")


def dollars(cost: int | None, default: str = NONE) -> Markup:
    """Return a cost, given in `usage.COST_UNIT`s: cents, or more where it is less than one; the title is exact."""
    if cost is None:
        return escape(default)
    amount = usd(cost)
    if not amount or abs(amount) >= _CENTS:
        shown = f"${amount.quantize(_CENTS):,}"
    else:
        shown = f"${amount.quantize(_SMALL)}" if abs(amount) >= _SMALL else "< $0.0001"
    exact = decimal_text(amount)
    return Markup('<data class="usd" value="{}" title="${}">{}</data>').format(exact, exact, shown)


def exact_dollars(amount: Decimal) -> Markup:
    """Return US dollars with all their decimals, up to the precision of a cost, so that lines can be added up."""
    text = decimal_text(amount.quantize(_EXACT))
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    return Markup('<data class="usd" value="{}">{}${}</data>').format(text, sign, digits)


def exact_cost(cost: int) -> Markup:
    """Return a cost, given in `usage.COST_UNIT`s, with all its decimals."""
    return exact_dollars(usd(cost))


def milliseconds(value: int | None, default: str = NONE) -> str:
    """Return a duration as people say it: `900 ms`, `1.2 s`, `3 min 20 s`."""
    if value is None:
        return default
    if value < _SECOND:
        return f"{value} ms"
    if value < _MINUTE:
        return f"{value / _SECOND:.3g} s"
    minutes, rest = divmod(value // _SECOND, 60)
    return f"{minutes:,} min {rest} s"


def limit_name(limit: LimitStanding) -> str:
    """Return the name of a limit: `requests a minute`, `requests at once`, `USD a month`."""
    if limit.kind == "parallel":
        return "requests at once"
    counted = "USD" if limit.kind == "usd" else limit.kind
    return f"{counted} {words.each(limit.per)}"


def limit_number(value: int, limit: LimitStanding) -> Markup:
    """Return a number of a limit: a count, or dollars."""
    return dollars(value) if limit.kind == "usd" else number(value)


def percentage(part: int, whole: int) -> float:
    """Return the percentage that a part is of a whole, from 0 to 100."""
    return round(min(max(part / whole, 0.0), 1.0) * 100, 2) if whole else 0.0


_FILTERS: Mapping[str, Callable[..., object]] = {
    "moment": moment,
    "number": number,
    "dollars": dollars,
    "exact_dollars": exact_dollars,
    "exact_cost": exact_cost,
    "milliseconds": milliseconds,
    "limit_name": limit_name,
    "limit_number": limit_number,
    "percentage": percentage,
    "windows": words.windows,
    "budgets": words.budgets,
    "each_period": words.each,
}
