"""Searching the web, and reading a page of it."""
