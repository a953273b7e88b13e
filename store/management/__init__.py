"""The records that administrators manage: projects, tokens and prices."""
