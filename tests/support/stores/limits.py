"""Limits of tokens and projects, as the management API sets them, and what has been used of them."""

from store.database.models import Balance as Row
from store.limits.balance import Balance, of_owners
from store.limits.budget import Budget
from store.limits.window import Window
from store.store import Store


def limit(store: Store, owner_id: str, kind: str, maximum: int, used: int = 0, reserved: int = 0) -> None:
    """Set a limit of a kind: `requests/minute`, `usd/day`, `parallel`; inside a writing transaction.

    Some of it may be used, or reserved, already.
    """
    made = Balance.begin(owner_id, kind, maximum, store.database.now())
    match made.state:
        case Window() as window:
            window.counts[-1], window.reserved = used, reserved
        case Budget() as budget:
            budget.settled, budget.reserved = used, reserved
        case None:
            made.used = used
    names = ("id", "used", "reserved", "newest", "counts")
    Row.create(owner_id=owner_id, maximum=maximum, **dict(zip(names, made.row, strict=True)))


def limited(store: Store, owner_id: str, **maxima: int) -> None:
    """Set limits: `minute=60`, `parallel=2`."""
    with store.database.write():
        for name, maximum in maxima.items():
            limit(store, owner_id, name if name == "parallel" else f"requests/{name}", maximum)


def used(store: Store, owner_id: str) -> dict[str, int]:
    """Return what has been used of each limit of an owner, by the names of `limited`."""
    return {one.period or "parallel": _used(one) for one in balances(store, owner_id).values()}


def balances(store: Store, owner_id: str) -> dict[str, Balance]:
    """Return the balances of an owner now, by their kinds."""
    with store.database.read():
        found = of_owners(store.database, [owner_id], store.database.now())[owner_id]
    return {one.kind: one for one in found}


def standing(store: Store, owner_id: str, kind: str) -> tuple[int, int]:
    """Return what is used and what is reserved of a window of tokens or a budget."""
    one = balances(store, owner_id)[kind]
    assert one.state is not None
    return _used(one), one.state.reserved


def _used(one: Balance) -> int:
    match one.state:
        case Window() as window:
            return window.used
        case Budget() as budget:
            return budget.settled
    return one.used


def differences(store: Store) -> list[tuple[str, str, int, int]]:
    """Return where balances are not what rows say: the balance, what of it, its number, and that of the rows.

    A budget has settled what the rows of its period have counted; what is reserved is the sum of what is held.
    """
    with store.database.read():
        now = store.database.now()
        owners = [owner for (owner,) in store.database.execute("SELECT DISTINCT owner_id FROM balance")]
        found = of_owners(store.database, owners, now)
        held = store.database.execute(_HELD)
        told = []
        for one in (one for owned in found.values() for one in owned):
            holds = [(amount, at) for balance_id, amount, at in held if balance_id == one.id]
            if isinstance(one.state, Budget):
                ((counted,),) = store.database.execute(_COUNTED, (one.owner_id, one.owner_id, one.state.since))
                told.append((one.id, "settled", one.state.settled, int(counted)))
                holds = [(amount, at) for amount, at in holds if at >= one.state.since]
            reserved = one.used if one.state is None else one.state.reserved
            told.append((one.id, "reserved", reserved, sum(amount for amount, _ in holds)))
    return [each for each in told if each[2] != each[3]]


_HELD = "SELECT balance_id, amount, started_at FROM slot JOIN request ON request.id = request_id"
_COUNTED = (
    "SELECT COALESCE(SUM(COALESCE(cost, 0) + COALESCE(budget_beyond, 0)), 0) FROM request"
    " WHERE (token_id = ? OR project_id = ?) AND started_at >= ?"
)
