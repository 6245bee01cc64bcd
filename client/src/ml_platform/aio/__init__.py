"""The asynchronous face of the client, written by hand; `ml_platform.sync` is made from it by `scripts/sync_face.py`."""
