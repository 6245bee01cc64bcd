"""The local stack: everything that `make up` starts for real, and `make down` ends."""
