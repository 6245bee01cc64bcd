"""The door to Feast: feature views, and the online features in them."""
