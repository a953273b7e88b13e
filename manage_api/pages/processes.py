"""The processes that admit requests, as the store knows them, for the overview and the status."""

from collections.abc import Sequence
from typing import NamedTuple

from store.database import Database
from store.metrics import process_figures
from store.metrics.process_figures import ENDED


class Process(NamedTuple):
    """A process that has a heartbeat, with the numbers that it had at its last one."""

    id: str
    version: str
    in_flight: int
    websockets: int
    admissions_waiting: int
    slots_waiting: int
    entries_waiting: int


def running(database: Database) -> Sequence[Process]:
    """Return the processes that run; those that have ended are removed within a minute. Raises StoreUnavailable."""
    with database.read():
        found = [(each, snapshot) for each, snapshot in process_figures.read(database) if each != ENDED]
    names = ("in_flight", "websockets", "queue admissions", "queue slots", "queue entries")
    return [
        Process(each, snapshot.version, *(snapshot.present.get(name, 0) for name in names)) for each, snapshot in found
    ]
