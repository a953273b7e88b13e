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
            window.add(used)
            window.reserved = reserved
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
        slots: dict[str, int] = dict(store.database.execute(_SLOTS))
        running = store.database.execute(_RESERVED)
        told = []
        for one in (one for owned in found.values() for one in owned):
            reserved = [row for row in running if one.owner_id in row[:2] and row[2] >= one.begun_at]
            match one.state:
                case Budget() as budget:
                    ((counted,),) = store.database.execute(_COUNTED, (one.owner_id, one.owner_id, budget.since))
                    told.append((one.id, "settled", budget.settled, int(counted)))
                    held = sum(usd for _, _, at, _, usd in reserved if at >= budget.since)
                    told.append((one.id, "reserved", budget.reserved, held))
                case Window() as window:
                    held = sum(tokens for *_, tokens, _ in reserved) if one.counted == "tokens" else 0
                    told.append((one.id, "reserved", window.reserved, held))
                case None:
                    told.append((one.id, "slots", one.used, slots.get(one.id, 0)))
    return [each for each in told if each[2] != each[3]]


_SLOTS = "SELECT balance_id, COUNT(*) FROM slot GROUP BY balance_id"
_RESERVED = (
    "SELECT token_id, project_id, started_at, reserved_tokens, reserved_usd FROM request"
    " WHERE settled_at IS NULL AND reserved_tokens IS NOT NULL"
)
_COUNTED = (
    "SELECT COALESCE(SUM(COALESCE(cost, 0) + COALESCE(budget_beyond, 0)), 0) FROM request"
    " WHERE (token_id = ? OR project_id = ?) AND started_at >= ?"
)
