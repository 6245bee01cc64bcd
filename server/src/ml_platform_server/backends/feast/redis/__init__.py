"""The fast path to features in Redis or Valkey, beside Feast's own read."""
