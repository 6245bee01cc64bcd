"""Keeps several worker processes serving on one port: starts them, replaces those that end, and ends them together."""
