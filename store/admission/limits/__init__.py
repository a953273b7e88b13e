"""The limits on requests: each has a file of its own, and a place in LIMITS."""

from collections.abc import Sequence

from store.admission.limits.limit import Limit
from store.admission.limits.requests import MaxRequests

__all__ = ["LIMITS", "Limit"]

LIMITS: Sequence[type[Limit]] = (MaxRequests,)
"""In the order in which they are tested: the first one that refuses is reported."""
