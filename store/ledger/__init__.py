"""The ledger: a row for each admitted request, its price, and the sums of hours and days."""
