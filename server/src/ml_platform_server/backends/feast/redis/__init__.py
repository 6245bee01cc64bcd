"""The fast path to features in Redis or Valkey, past Feast's own read."""
