"""The media room's stand-in."""

from stand_in import main  # type: ignore[import-not-found]  # beside it, on its own path

main()
