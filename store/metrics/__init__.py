"""The figures of the processes that serve requests: counted in memory, kept in the store, added up for `/metrics`."""
