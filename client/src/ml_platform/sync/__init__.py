"""The synchronous face of the client. All but `wire.py` is made from `ml_platform.aio` by `scripts/sync_face.py`."""
