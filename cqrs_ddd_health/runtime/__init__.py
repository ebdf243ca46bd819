"""What Python does not give."""
