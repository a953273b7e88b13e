"""Moving house: a store is copied into another database, such as one of SQLite into PostgreSQL.

`copier` does it, in one snapshot of the source and one transaction of the target. `tables` knows what a row may hold,
`digest` compares rows without keeping them, and `mark` tells a copy that nobody has used from everything else that the
target may hold.
"""
