"""The environments that versions are deployed to, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ml_platform_server.errors import invalid
from ml_platform_server.similar_names import closest

PRODUCTION, STAGING = "production", "staging"


class Environments:
    """The names of the environments that versions can be deployed to.

    Args:
        names: at least one, as the settings list them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.default = PRODUCTION if PRODUCTION in names else names[-1]
        """Where a client of the Open Inference Protocol that names no version asks."""
        self._names = (self.default, *(name for name in names if name != self.default))

    def __iter__(self) -> Iterator[str]:
        """The names, the default first."""
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        """Whether there is such an environment."""
        return name in self._names

    def check(self, name: str) -> None:
        """Refuse a name that is no environment's.

        Raises:
            PlatformError: INVALID_FIELDS.
        """
        if name not in self._names:
            meant = closest(name, self._names)
            hint = f"; did you mean '{meant}'?" if meant else ""
            raise invalid("environment", f"{name[:64]!r} is no environment; there are {', '.join(self._names)}{hint}")


DEFAULT = Environments((STAGING, PRODUCTION))
