"""The records that operators manage: projects, tokens and prices."""
