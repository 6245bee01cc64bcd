"""What the platform deals in, as typed results, and the only code that reads the contract's messages."""
