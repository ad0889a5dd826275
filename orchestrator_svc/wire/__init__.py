"""Between the contract's messages and this room's nouns: pure functions, both ways."""
