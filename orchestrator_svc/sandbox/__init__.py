"""Programs of others, each in a cell of its own: what they see, may call and may use up is named here."""
