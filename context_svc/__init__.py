"""context_svc: the person, their sessions and the conversation. It alone writes the log."""
