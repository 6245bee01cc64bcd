"""The synchronous API of the client. All but `transport.py` is made from `ml_platform.aio` by `scripts/sync_api.py`."""
