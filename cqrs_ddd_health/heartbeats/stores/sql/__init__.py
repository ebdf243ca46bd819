"""Beats in a database."""
