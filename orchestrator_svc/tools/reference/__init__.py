"""What can be looked up without asking anybody."""
