"""The network between client, gateway and upstream: proxies, balancers, relays, names, certificates."""
