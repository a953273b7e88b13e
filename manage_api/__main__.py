"""`python -m manage_api`: the process that serves the management API."""

import os

from manage_api.app import create_app
from manage_api.pages.status import Deployment
from manage_api.server import serve
from store.ledger.housekeeping import Housekeeping
from store.operations.opening import management_token, open_store
from store.reports.overview import Overview
from store.reports.renewed import Renewal
from store.runtime import logs
from store.runtime.lifecycle import BAD_SETTINGS, CANNOT_START, MITMWEB, begin, or_exit
from store.runtime.settings import Settings


def main() -> None:
    """Serve until a signal ends it. Exits with 2 for bad settings, with 1 for another fault."""
    begin()
    settings = or_exit(Settings.load, BAD_SETTINGS)
    logs.configure(settings.log_threshold, settings.log_format)
    settings.warn()
    or_exit(lambda: _serve(settings), CANNOT_START)


def _serve(settings: Settings) -> None:
    store, token = open_store(settings), management_token(settings)
    housekeeping = Housekeeping(store, settings.ledger_days, audit_days=settings.audit_days)
    overview = Overview(store)
    renewal = Renewal(store.database, overview.values)
    try:
        trusted = settings.trusted_networks
        deployment = Deployment(settings.shown, os.environ.get(MITMWEB, ""), settings.proxy.port)
        app = create_app(store, token, trusted, deployment, overview)
        serve(app, settings.manage, settings.drain_timeout, trusted)
    finally:
        renewal.close()
        housekeeping.close()


if __name__ == "__main__":
    main()
