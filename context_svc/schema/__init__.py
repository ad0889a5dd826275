"""The schema of context.db: one module per part, applied in the order of their versions."""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema import (
    context,
    conversation,
    identity,
    identity_rules,
    jobs,
    learning,
    leaving,
    ledger,
    reminders,
    robustness,
    waiting,
)

MIGRATIONS: tuple[Migration, ...] = (
    identity.MIGRATION,
    conversation.MIGRATION,
    identity_rules.MIGRATION,
    context.MIGRATION,
    jobs.MIGRATION,
    leaving.MIGRATION,
    learning.MIGRATION,
    waiting.MIGRATION,
    ledger.MIGRATION,
    robustness.MIGRATION,
    reminders.MIGRATION,
)
