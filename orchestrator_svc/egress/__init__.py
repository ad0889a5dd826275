"""The one way out: HTTP that reaches nothing private, in bounded time and size."""
