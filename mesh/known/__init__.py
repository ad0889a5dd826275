"""What the assistant knows of the person at this terminal."""
