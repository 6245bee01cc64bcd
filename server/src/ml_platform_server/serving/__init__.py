"""The prediction engine: which version answers, what it needs to know, and what executes it."""
