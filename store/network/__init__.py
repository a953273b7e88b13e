"""Addresses, sockets, forward proxies and certificate authorities: the network as the settings describe it."""
