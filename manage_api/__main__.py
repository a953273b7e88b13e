"""`python -m manage_api`: the management API as a process of its own."""

import sys

from manage_api.app import create_app
from manage_api.server import serve
from store import logs
from store.bootstrap import management_token, open_store
from store.errors import StartupError
from store.settings import Settings


def main() -> int:
    """Serve until a signal ends it. Return the exit code: 2 for bad settings, 1 for another fault."""
    try:
        settings = Settings.load()
    except StartupError as error:
        return _fail(error, 2)
    logs.configure(settings.log_threshold, settings.log_format)
    try:
        serve(create_app(open_store(settings), management_token(settings)), settings.manage)
    except StartupError as error:
        return _fail(error, 1)
    return 0


def _fail(error: StartupError, code: int) -> int:
    print(error, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
