"""The launcher: `./run.sh` starts the proxy with `python -m addon`; `python -m addon --web` shows it in mitmweb.

Unlike `mitmdump -s` it loads the addons before the port opens, and does not watch their files.
"""

import click

from addon.serving import lean_imports
from store.runtime.lifecycle import BAD_SETTINGS, CANNOT_START, begin, or_exit
from store.runtime.settings import Settings


@click.command(help=__doc__)
@click.option("--web", is_flag=True, help="Show the traffic in mitmweb, on WEB_LISTEN.")
def main(*, web: bool) -> None:
    """Serve until a signal comes."""
    begin()
    settings = or_exit(Settings.load, BAD_SETTINGS)
    if not web:
        lean_imports.install()
    from addon.serving import launching  # noqa: PLC0415 - it imports mitmproxy

    or_exit(lambda: (launching.serve_with_mitmweb if web else launching.serve)(settings), CANNOT_START)


if __name__ == "__main__":
    main()
