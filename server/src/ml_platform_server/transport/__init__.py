"""What accepts calls and sends responses. Everything above knows the port and no transport (docs/adr/0013)."""
