"""Puts our addons before all others, so that none of them sees what is not masked yet."""

from mitmproxy.master import Master


def add_first(master: Master, *addons: object) -> None:
    """Load addons at the head of the chain, in this order; `master.addons.add` puts them at the end."""
    for place, addon in enumerate(addons):
        master.addons.register(addon)
        master.addons.chain.insert(place, addon)
