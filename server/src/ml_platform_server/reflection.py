"""What reflection tells of the contract, single methods included, so that grpcurl can describe them."""

from __future__ import annotations

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from ml_platform_server import open_inference


class ReflectedPool:
    """The default descriptor pool and the Open Inference Protocol's. Finds the file of a method too, as protobuf's own do not."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()
        self._pools = (self._pool, open_inference.POOL)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  # protobuf's name
        """The file that defines a symbol; KeyError if there is none."""
        for pool in self._pools:
            try:
                return pool.FindFileContainingSymbol(symbol)
            except KeyError:
                pass
        service, _, method = symbol.rpartition(".")
        return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802  # protobuf's name
        """The file of a name; KeyError if there is none."""
        try:
            return self._pool.FindFileByName(name)
        except KeyError:
            return open_inference.POOL.FindFileByName(name)

    def __getattr__(self, name: str) -> object:
        """Everything else is the default pool's."""
        return getattr(self._pool, name)
