"""What the caller did not send: columns that the feature store supplies."""
