"""Puts the addon before all others, so that none of them sees what it has not masked yet."""

from mitmproxy.master import Master


def add_first(master: Master, addon: object) -> None:
    """Load an addon at the head of the chain; `master.addons.add` puts it at the end."""
    master.addons.register(addon)
    master.addons.chain.insert(0, addon)
