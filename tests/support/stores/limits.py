"""Limits of tokens and projects, as the management API sets them, and what has been used of them."""

from store.database.models import Balance as Row
from store.limits.balance import Balance, of_owners
from store.store import Store


def limit(store: Store, owner_id: str, kind: str, maximum: int) -> None:
    """Set a limit of a kind: `requests/minute`, `parallel`; inside a writing transaction."""
    made = Balance.begin(owner_id, kind, maximum, store.database.now())
    _, used, newest, counts = made.row
    Row.create(id=made.id, owner_id=owner_id, maximum=maximum, used=used, newest=newest, counts=counts)


def limited(store: Store, owner_id: str, **maxima: int) -> None:
    """Set limits: `minute=60`, `parallel=2`."""
    with store.database.write():
        for name, maximum in maxima.items():
            limit(store, owner_id, name if name == "parallel" else f"requests/{name}", maximum)


def used(store: Store, owner_id: str) -> dict[str, int]:
    """Return what has been used of each limit of an owner, by the names of `limited`."""
    with store.database.read():
        found = of_owners(store.database, [owner_id], store.database.now())[owner_id]
    return {one.period or "parallel": one.used if one.window is None else one.window.used for one in found}
