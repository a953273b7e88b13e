"""Makes the addons from the settings, for each tool that starts them; exits with a message if that fails."""

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
from store.store import Store


class Upkeep:
    """The addon that stops the housekeeping before the gateway ends: an ended process must send no heartbeat."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        self._housekeeping = housekeeping

    def done(self) -> None:
        """Stop the housekeeping."""
        self._housekeeping.close()


class Address:
    """The addon that has mitmweb's badge show the proxy's address."""

    def running(self) -> None:
        """Show it."""
        listening.show_address(ctx.master)


def add_gateway(master: Master, settings: Settings) -> None:
    """Set up the process and its log, open the store and add the addons; or exit with 1 and the reason."""
    allow_many_open_files()
    logs.configure(settings.log_threshold, settings.log_format)
    settings.warn()
    log_redaction.remove_terminal_handler()
    log_redaction.quieten(settings.log_threshold)
    log_redaction.hide_login("tornado.access")
    store = or_exit(lambda: open_store(settings), CANNOT_START)
    or_exit(lambda: add_addons(master, settings, store), CANNOT_START)
    _warm_up()


def add_addons(master: Master, settings: Settings, store: Store) -> Gateway:
    """Add the gateway's addons for an open store, in their order and before all others. Raises StartupError."""
    admission = Admission(store, settings.reserve_output_tokens)
    gateway = Gateway(settings, admission)
    upkeep = Upkeep(Housekeeping(store, settings.ledger_days, admission.figures_row, audit_days=settings.audit_days))
    flows = flow_list.of(master)
    for_operators = [] if flows is None else [OperatorView(settings, flows), Address()]
    dispatch.install(master)
    dispatch.add_first(master, upkeep, gateway, WebSocketFrames(), *for_operators)
    return gateway


def _warm_up() -> None:
    """Load the prices, which the first requests would load within a transaction that locks all others out.

    The objects that exist by now stay, so the garbage collector need not look through them again.
    """
    pricing.warm()
    gc.collect()
    gc.freeze()
