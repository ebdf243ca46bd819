"""How we connect to what we were given a URL of."""
