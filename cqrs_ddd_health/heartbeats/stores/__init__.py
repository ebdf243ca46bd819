"""Where beats are kept."""
