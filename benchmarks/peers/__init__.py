"""The servers that are compared with: each a small program as its own documentation has it, run in an environment of its own."""
