"""The base of the limits: the columns that a limit reads, and its four steps."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

from store.database import Database
from store.errors import TokenRefused
from store.request import Opened


@dataclass(slots=True)
class Limit(abc.ABC):
    """A limit, with its state for one token while a batch is decided.

    Its fields are what it reads: `token_x` is column x of `token`, `project_x` that of `project`.
    """

    @abc.abstractmethod
    def test(self) -> TokenRefused | None:
        """Return why one more request is refused, or None."""

    @abc.abstractmethod
    def hit(self) -> None:
        """Count a request that all limits have let pass."""

    @staticmethod
    @abc.abstractmethod
    def write(database: Database, admitted: Sequence[Opened], now: int) -> None:
        """Write what the requests of a batch have changed, for all of their tokens; inside its transaction."""

    @staticmethod
    @abc.abstractmethod
    def give_back(database: Database, withdrawn: Sequence[Opened]) -> None:
        """Undo `write` for some requests; inside a transaction that has locked their tokens."""
