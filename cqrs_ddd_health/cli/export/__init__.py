"""Files that are written for others."""
