"""Requests of several tokens that are admitted at once."""

import asyncio

from store.admission.admission import Admission
from store.admission.decision import Admitted
from support.stores.stores import opening


def admit(admission: Admission, *values: str) -> list[Admitted | BaseException]:
    """Ask for one request of each of these values; return the outcomes."""

    async def all_at_once() -> list[Admitted | BaseException]:
        return await asyncio.gather(*(admission.admit(value, opening()) for value in values), return_exceptions=True)

    return asyncio.run(all_at_once())


def outcomes(admission: Admission, *values: str) -> list[type]:
    """Ask as `admit` does, and return the types of the outcomes."""
    return [type(outcome) for outcome in admit(admission, *values)]
