"""What a model takes: its signature, and how values, rows and columns are converted to it."""
