"""The policies of one owner, a token or a project, as they are tested."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from store import wildcards
from store.network.addresses import Network, address, network
from store.policies import lists


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one owner, by their names, and by patterns in which `*` stands for any characters."""

    names: frozenset[str]
    patterns: tuple[str, ...] = ()

    def __contains__(self, model: object) -> bool:
        """Tell whether a model is allowed; its name is compared exactly but for the `*`."""
        return model in self.names or any(wildcards.matches(pattern, str(model)) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Policy:
    """The lists of one owner; None allows everything."""

    models: Models | None
    endpoints: tuple[str, ...] | None
    networks: tuple[Network, ...] | None

    def allows_client(self, client: str) -> bool:
        """Tell whether requests may come from an address; a name is none."""
        if self.networks is None:
            return True
        found = address(client)
        return found is not None and any(found in one for one in self.networks)


@functools.lru_cache(maxsize=1024)
def policy(models: str | None, endpoints: str | None, ips: str | None) -> Policy:
    """Read the policies of an owner, as the store keeps them; each text is read once."""
    found_models, found_endpoints, found_ips = lists.read(models), lists.read(endpoints), lists.read(ips)
    networks = None if found_ips is None else [network(text, strict=True) for text in found_ips]
    return Policy(
        None if found_models is None else _models(found_models),
        None if found_endpoints is None else tuple(found_endpoints),
        None if networks is None else tuple([one for one in networks if one is not None]),
    )


def _models(entries: Sequence[str]) -> Models:
    patterns = [entry for entry in entries if wildcards.ANY in entry]
    return Models(frozenset(entries).difference(patterns), tuple(patterns))
