"""Reads requests and holds them to the contract's rules, large ones piece by piece."""
