"""Feature views in Feast's registry: registering them, and writing to them."""
