"""Makes the addon from the settings, for whichever tool starts it; ends the process with a message if that fails."""

from addon.gateway import Gateway
from addon.seams import log_records
from store import logs
from store.admission import Admission
from store.bootstrap import open_store
from store.lifecycle import CANNOT_START, allow_many_open_files, or_exit
from store.settings import Settings


def make_gateway(settings: Settings) -> Gateway:
    """Set up the process and its log and open the store, or exit with 1 and what is wrong."""
    allow_many_open_files()
    logs.configure(settings.log_threshold, settings.log_format)
    log_records.remove_terminal_handler()
    log_records.quieten(settings.log_threshold)
    return Gateway(settings, or_exit(lambda: Admission(open_store(settings)), CANNOT_START))
