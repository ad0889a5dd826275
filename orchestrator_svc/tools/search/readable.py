"""The text of a web page: bytes of HTML come in, JSON goes out. A program of its own: ``python -m …``.

A page is hostile until proved otherwise, and its reader is native code: here it has little memory and little
time, writes no file, and whoever started it can kill it at once.
"""

from __future__ import annotations

import json
import resource
import sys

MEMORY, CPU_SECONDS = 1024 * 1024 * 1024, 10


def main() -> None:
    """Read standard input, write {"title", "date", "text"}; empty text when there is nothing to read."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    content = sys.stdin.buffer.read()
    import trafilatura

    text = trafilatura.extract(content, output_format="markdown", include_comments=False) or ""
    about = trafilatura.extract_metadata(content) if text else None
    told = {
        "title": (about.title or "") if about else "",
        "date": (about.date or "") if about else "",
        "text": text,
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
