"""Admission: the decision on each request, and the one writer thread that carries it out in a transaction."""
