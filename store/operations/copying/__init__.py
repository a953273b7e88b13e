"""Copies a store into another database, such as one of SQLite into PostgreSQL.

`copier` does it, in one snapshot of the source and one transaction of the target. `tables` checks the values of rows,
`digest` compares rows without keeping them, and `mark` records the copy in its target, so that only an unused copy is
replaced.
"""
