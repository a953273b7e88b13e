"""The store: everything that both processes know, and the only code that touches the database.

`bootstrap` opens it, `database` holds what differs between engines, `models` and `migrations/` the tables,
`crypto` what is secret in them; `projects` and `tokens` serve the management API, `admission` (through the
one writer thread of `group_commit`) serves the proxy, `rotation` replaces the key that all is encrypted with.
The ledger is read by `usage_report` (by way of `coverage`, `usage_statement` and `usage_sums`) and `request_list`;
`prices` keeps the operator's own prices. `settings`, `errors`, `logs`, `lifecycle`, `health`, `clock`, `money`, `sql`
and `keyfiles` are what all processes share besides.
It imports neither mitmproxy nor Flask.
"""
