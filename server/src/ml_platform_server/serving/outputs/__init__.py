"""What a model gives: predictions, by row and by column, and how they are encoded."""
