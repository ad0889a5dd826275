"""How a room stands up: serving, dialling, the boundary, identity, the store, time. No product nouns."""
