"""The agent loop: one turn from its material to its answer, and the actions it may use. Keeps nothing."""
