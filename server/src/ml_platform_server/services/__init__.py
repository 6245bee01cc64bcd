"""One servicer per service of the contract: take the message, ask one thing, reply."""
