"""Actions that this room performs itself. Named and described for models by orchestrator_svc."""
