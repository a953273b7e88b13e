"""Makes the addon from the settings, for whichever tool starts it; ends the process with a message if that fails."""

import sys
from collections.abc import Callable

from addon.gateway import Gateway
from addon.seams import log_records
from store import logs
from store.admission import Admission
from store.bootstrap import open_store
from store.errors import StartupError
from store.settings import Settings

_CANNOT_START = 1
_BAD_SETTINGS = 2


def read_settings() -> Settings:
    """Read the settings, or exit with 2 and all that is wrong with them."""
    return _or_exit(Settings.load, _BAD_SETTINGS)


def make_gateway(settings: Settings) -> Gateway:
    """Set up the log and open the store, or exit with 1 and what is wrong."""
    logs.configure(settings.log_threshold, settings.log_format)
    log_records.remove_terminal_handler()
    log_records.quieten(settings.log_threshold)
    return Gateway(settings, _or_exit(lambda: Admission(open_store(settings)), _CANNOT_START))


def _or_exit[T](make: Callable[[], T], status: int) -> T:
    try:
        return make()
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(status)
