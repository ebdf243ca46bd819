"""Asking, and remembering."""
