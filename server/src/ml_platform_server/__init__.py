"""The asyncio gRPC server of ML Platform. The README's map of the house says what is where."""
