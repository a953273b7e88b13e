"""What has to happen by when, on one client's connection."""

import time


class Deadlines[Key]:
    """Things that are waited for, each for the same number of seconds (of the monotonic clock) from its start."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[Key, float] = {}

    def start(self, key: Key, since: float | None = None) -> float:
        """Wait for this, from now or from `since` on; anew if it was waited for already. Returns until when."""
        end = self._ends[key] = (time.monotonic() if since is None else since) + self._seconds
        return end

    def stop(self, key: Key) -> None:
        """Wait no more: it has happened, or does not matter any longer."""
        self._ends.pop(key, None)

    def take_late(self) -> list[Key]:
        """Return what has not happened in time, and wait for it no more."""
        now = time.monotonic()
        late = [key for key, end in self._ends.items() if end <= now]
        for key in late:
            del self._ends[key]
        return late

    def __contains__(self, key: Key) -> bool:
        return key in self._ends

    def next_end(self) -> float | None:
        """Return when the first of them ends, if there is any."""
        return min(self._ends.values(), default=None)
