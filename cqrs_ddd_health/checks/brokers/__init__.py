"""One module a broker."""
