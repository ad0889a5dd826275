"""Print what every conversation begins with, for an engine that reads it beforehand: ``python -m …``."""

from __future__ import annotations

import sys

from orchestrator_svc.material import Purpose
from orchestrator_svc.prompt import system_text

if __name__ == "__main__":
    sys.stdout.write(system_text(Purpose.ANSWER))
