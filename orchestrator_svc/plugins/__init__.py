"""Plugins: Python files of the operator, each run in a cell of its own."""
