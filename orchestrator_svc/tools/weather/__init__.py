"""What the weather is and will be."""
