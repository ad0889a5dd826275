"""The contract's messages and this room's values, into each other: pure functions, one module per service."""
