"""What the writer's transactions do: decide on requests under locks, count them, and write to the ledger."""

import dataclasses
import itertools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from store.admission import refusals
from store.admission.compensation import take_back
from store.admission.decision import Admitted, Batch, Claim, Probe, TokenName, TokenRow, TokenState
from store.admission.limits import LIMITS
from store.admission.refusals import Tally
from store.database import Row, Statement
from store.errors import GatewayError
from store.ledger.ledger import Ledger, Settlement
from store.store import Store

type Entry = Settlement | Tally

_WIDTHS = [len(TokenRow._fields), *(len(dataclasses.fields(limit)) for limit in LIMITS)]
_ENDS = [*itertools.accumulate(_WIDTHS)]
_PARTS = [(limit, slice(*ends)) for limit, ends in zip(LIMITS, itertools.pairwise(_ENDS), strict=True)]
"""The limits, and which columns of a row are their fields."""

_FIELDS = [*TokenRow._fields, *(field.name for limit in LIMITS for field in dataclasses.fields(limit))]
_READ = ", ".join(f"{name.replace('_', '.', 1)} AS {name}" for name in _FIELDS)
_LOCK_AND_READ = (
    "SELECT id FROM project WHERE id IN (SELECT project_id FROM token WHERE {named}) ORDER BY id",
    "SELECT id FROM token WHERE {named} ORDER BY id",
    f"SELECT {_READ} FROM token JOIN project ON project.id = token.project_id WHERE {{named}}",  # noqa: S608 - names of ours
)


class AdmissionWork:
    """The writer's work for one process. `instance_id` is the process in the store, whose rows it opens."""

    def __init__(self, store: Store, ledger: Ledger, instance_id: str) -> None:
        self._database = store.database
        self._vault = store.vault
        self._ledger = ledger
        self._instance_id = instance_id

    def decide(self, items: Sequence[Claim | Probe]) -> list[Admitted | GatewayError | None]:
        """Decide on requests in the order of their arrival; count the admitted ones, and open their rows."""
        claims = [item for item in items if isinstance(item, Claim)]
        outcomes = self._outcomes(claims) if claims else []
        if len(claims) == len(items):
            return outcomes
        self._database.touch()
        of_claims = iter(outcomes)
        return [next(of_claims) if isinstance(item, Claim) else None for item in items]

    def record(self, entries: Sequence[Entry]) -> None:
        """Write settlements, and the rows of refusals."""
        settlements, tallies = _sorted(entries)
        if settlements:
            self._ledger.settle(settlements)
        if tallies:
            refusals.write(self._database, tallies)

    def record_each(self, entries: Sequence[Entry]) -> None:
        """Write them as `record` does; what cannot be written does not hold up the others."""
        settlements, tallies = _sorted(entries)
        if settlements:
            self._ledger.settle_each(settlements)
        if tallies:
            refusals.write_each(self._database, tallies)

    def compensate(self, results: Sequence[Admitted | None]) -> None:
        """Take back admissions whose callers were refused."""
        take_back(self._database, [admitted.opened for admitted in results if admitted])

    def abandoned(self, result: Admitted | None) -> Entry | None:
        """Settle, as unknown, a request whose client went away while it was admitted."""
        return Settlement(result.opened) if result else None

    def _outcomes(self, claims: Sequence[Claim]) -> list[Admitted | GatewayError | None]:
        now, tokens = self._lock_and_read({claim.name for claim in claims})
        batch = Batch(tokens, now, self._vault.open_api_key)
        outcomes = [batch.decide(claim) for claim in claims]
        if batch.admitted:
            opened = [opened for _, opened in batch.admitted]
            for limit in LIMITS:
                limit.write(self._database, opened, now)
            self._ledger.open(self._instance_id, batch.admitted)
        return outcomes

    def _lock_and_read(self, names: AbstractSet[TokenName]) -> tuple[int, dict[TokenName, TokenState]]:
        """Read the tokens that are named, with the time: projects are locked first, then tokens (see `locks`).

        A token that is made meanwhile may be missing: its value has not been handed out yet.
        """
        conditions = [
            self._database.among(f"token.{column}", [name.value for name in names if name.column == column])
            for column in sorted({name.column for name in names})
        ]
        named = " OR ".join(condition.sql for condition in conditions)
        values = [value for condition in conditions for value in condition.parameters]
        projects, tokens, select = (Statement(sql.format(named=named), values) for sql in _LOCK_AND_READ)
        now, rows = self._database.read_locked([projects, tokens], select)
        found = {}
        for row in rows:
            state = _state(row)
            found[TokenName("lookup", state.row.token_lookup)] = found[TokenName("id", state.row.token_id)] = state
        return now, found


def _state(values: Row) -> TokenState:
    """Read a row of _FIELDS."""
    return TokenState(TokenRow._make(values[: _ENDS[0]]), [limit(*values[part]) for limit, part in _PARTS])


def _sorted(entries: Sequence[Entry]) -> tuple[list[Settlement], list[Tally]]:
    settlements = [entry for entry in entries if isinstance(entry, Settlement)]
    return settlements, [entry for entry in entries if isinstance(entry, Tally)]
