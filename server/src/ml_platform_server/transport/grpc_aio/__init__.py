"""grpc.aio as the transport: the default, and the reference for every other."""
