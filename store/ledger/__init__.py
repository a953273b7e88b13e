"""The ledger: a row for each admitted request, its cost, and the sums by hour and day."""
