"""The report over HTTP."""
