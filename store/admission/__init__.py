"""Admission: the decision on each request, and the writer thread that carries it out in a transaction.

A request passes `admission` (the interface), `inbox`, `writer`, `work` (SQL), `decision` (rules) and `limits`, and is
answered through its `pending_request`. Entries that no caller waits for pass `write_behind`. A busy writer runs on
the `same_processor` as the event loop. Two questions pass the same way, and are answered without locks:
`token_standing` (what a token has left) and `running` (which running requests are to end).
"""
