"""The asynchronous API of the client, written by hand; `ml_platform.sync` is made from it by `scripts/sync_api.py`."""
