"""The store: everything that both processes know, and the only code that touches the database.

`bootstrap` opens it, `schema` brings its tables up to date, `copying/` takes it into another database; `database/`
holds what differs between engines, `models` and `migrations/` the tables, `crypto` what is secret in them;
`projects` and `tokens` serve the management API, `admission` (through the one writer thread of `group_commit`, which
has a `ticket` for each request, and `notes`) serves the proxy; `withdrawals` take back what it could not answer for.
`rotation` replaces the key that all is encrypted with, `backup` copies all into one file.
`ledger` opens and settles a row for each admitted request, by way of `pricing` and the `sums` of hours and days;
`instances` are the processes that do, and `housekeeping` settles what dead ones left; `retention` deletes what is old.
Beside it `refusals` keeps which requests were refused, whose they were (`holder`) and from where (`client_address`).
`usage_report` reads both (by way of `coverage`, `usage_statement` and `usage_sums`), and so does `request_list`, with
`names` that outlive what they name. `prices` keeps the operator's own prices.
`settings`, `errors`, `logs`, `lifecycle`, `health`, `clock`, `ids`, `usage`, `money`, `text`, `sql` and `keyfiles` are
what all processes share besides.
It imports neither mitmproxy nor Flask.
"""
