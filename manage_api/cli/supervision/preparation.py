"""`python -m manage_api.cli.supervision.preparation`: brings the schema up to date, makes the secrets, and ends.

It runs once, before several processes open the store at the same time. It is a process of its own because the
supervisor runs for as long as the gateway does, and need not keep the store's code in its memory.
"""

from manage_api.cli.context import configure_log
from store.operations.opening import management_token, open_store
from store.runtime.lifecycle import BAD_SETTINGS, CANNOT_START, begin, or_exit
from store.runtime.settings import Settings


def main() -> None:
    """Prepare the store. Exits with 2 for bad settings, with 1 for another fault."""
    begin()
    settings = or_exit(Settings.load, BAD_SETTINGS)
    configure_log(settings)
    or_exit(lambda: _prepare(settings), CANNOT_START)


def _prepare(settings: Settings) -> None:
    open_store(settings).database.close()
    management_token(settings)


if __name__ == "__main__":
    main()
