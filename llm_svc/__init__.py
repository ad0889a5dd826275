"""The room that turns one request into one stream of tokens."""
