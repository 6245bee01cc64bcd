"""The scopes of API keys in words: "experiments:write" stands for SCOPE_EXPERIMENTS_WRITE."""

from __future__ import annotations

from collections.abc import Iterable

from ml_platform.v1 import auth_pb2
from ml_platform.v1.auth_pb2 import Scope

_PREFIX = "SCOPE_"
# Any valid key has it, so no key carries it.
_IMPLIED = (auth_pb2.SCOPE_UNSPECIFIED, auth_pb2.SCOPE_AUTHENTICATED)


def name_of(scope: int) -> str:
    """The scope in words. A number that the contract does not know (an older server reads a newer key) stays a number."""
    if scope not in Scope.values():
        return f"scope:{scope}"
    thing, _, action = Scope.Name(Scope.ValueType(scope)).removeprefix(_PREFIX).lower().rpartition("_")
    return f"{thing}:{action}" if thing else action


GRANTABLE: dict[str, Scope.ValueType] = {
    name_of(value): Scope.ValueType(value) for value in Scope.values() if value not in _IMPLIED
}


def parse(names: Iterable[str]) -> frozenset[int]:
    """The scopes that the names stand for; "all" stands for every one.

    Raises:
        ValueError: a name is not a scope's.
    """
    scopes: set[int] = set()
    for name in names:
        if name == "all":
            scopes.update(GRANTABLE.values())
        elif name in GRANTABLE:
            scopes.add(GRANTABLE[name])
        else:
            raise ValueError(f"'{name}' is no scope. There are: all, {', '.join(GRANTABLE)}.")
    return frozenset(scopes)
