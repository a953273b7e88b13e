"""The store: all state that the processes share, and the only code that touches the database.

    runtime/      settings, logs and the masking of secrets in them, start and stop of a process
    network/      addresses, sockets, forward proxies, certificate authorities
    encryption/   the key ring, and the vault that seals API keys
    database/     the engines (SQLite, PostgreSQL), the tables, transactions and the order of locks
    management/   projects, tokens and prices, for the management API
    admission/    the decision on each request, and the writer thread that carries it out
    ledger/       a row for each admitted request, its price, and the sums of hours and days
    reports/      usage and the list of requests
    operations/   opening, copying and backing up a store; rotating its encryption key

`request` is a request as the store knows it, `store` the record of an open store; `schema` brings its tables up to date
(`migrations/`); `errors` are the errors that clients get, with the statuses of both ports. `clock`, `ids`,
`version` and `wildcards` are shared by all. The package imports neither mitmproxy nor Flask.
"""
