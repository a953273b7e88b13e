"""Ends a flow that an operator kills while it is intercepted: mitmproxy would leave it waiting, and its client too."""

from mitmproxy.flow import Flow

_kill = Flow.kill


def _kill_and_go_on(self: Flow) -> None:
    _kill(self)  # type: ignore[no-untyped-call]
    if self._resume_event is not None:
        self._resume_event.set()


def install() -> None:
    """Have every killed flow of the process go on, to its end."""
    Flow.kill = _kill_and_go_on  # type: ignore[method-assign]  # it has no hook for it
