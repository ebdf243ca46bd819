"""What health means."""
