"""What the server tells of itself to those who run it: metrics, traces, and the page they are read from."""
