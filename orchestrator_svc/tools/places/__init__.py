"""Where things are, and how to get there."""
