"""The room's services: parse, call, build. One module per service."""
