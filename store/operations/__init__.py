"""Operations on a whole store: opening it, copying it, backing it up, and rotating its encryption key."""
