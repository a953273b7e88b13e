"""Makes the addons from the settings, for whichever tool starts them; ends the process with a message if that fails."""

import gc

from mitmproxy import ctx
from mitmproxy.master import Master

from addon.gateway import Gateway
from addon.inspector import flow_list
from addon.inspector.operator_view import OperatorView
from addon.patches import dispatch
from addon.serving import listening, log_redaction
from addon.websocket_frames import WebSocketFrames
from store.admission.admission import Admission
from store.ledger import pricing
from store.ledger.housekeeping import Housekeeping
from store.operations.opening import open_store
from store.runtime import logs
from store.runtime.lifecycle import CANNOT_START, allow_many_open_files, or_exit
from store.runtime.settings import Settings


class Upkeep:
    """The addon that stops the housekeeping, before the gateway's own end: a process that has ended must not beat."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        self._housekeeping = housekeeping

    def done(self) -> None:
        """Stop it."""
        self._housekeeping.close()


class Address:
    """The addon that has mitmweb's badge show the proxy's address."""

    def running(self) -> None:
        """Show it."""
        listening.show_address(ctx.master)


def add_gateway(master: Master, settings: Settings) -> None:
    """Set up the process and its log, open the store and put the addons first; or exit with 1 and what is wrong."""
    allow_many_open_files()
    logs.configure(settings.log_threshold, settings.log_format)
    settings.warn()
    log_redaction.remove_terminal_handler()
    log_redaction.quieten(settings.log_threshold)
    log_redaction.hide_login("tornado.access")
    store = or_exit(lambda: open_store(settings), CANNOT_START)
    admission = Admission(store)
    gateway = or_exit(lambda: Gateway(settings, admission), CANNOT_START)
    upkeep = Upkeep(Housekeeping(store, settings.ledger_days, admission.instance_id))
    flows = flow_list.of(master)
    for_operators = [] if flows is None else [OperatorView(settings, flows), Address()]
    dispatch.install(master)
    dispatch.add_first(master, upkeep, gateway, WebSocketFrames(), *for_operators)
    _settle_in()


def _settle_in() -> None:
    """Load what the first requests would wait for, and with them, in a transaction, all others on the store.

    What is there by now stays, and is not looked through ever again.
    """
    pricing.warm()
    gc.collect()
    gc.freeze()
