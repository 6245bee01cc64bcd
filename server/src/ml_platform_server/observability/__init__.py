"""Metrics and traces for those who run the server, and the page that metrics are read from."""
