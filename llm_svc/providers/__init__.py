"""Adapters: one module for each kind of server a model can live in."""
