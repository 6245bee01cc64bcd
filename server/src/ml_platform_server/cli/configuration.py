"""Reads the configuration and shows it, so that an operator sees what is in effect and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, SecretStr, ValidationError

from ml_platform_server.settings import ServerSettings, Settings

_MASK = "********"
_PASSWORD_IN_URL = re.compile(r"(://[^/@:]*):[^/@]*@")


class SettingsError(Exception):
    """The configuration cannot be read; the text names each variable and what is wrong with it, and shows no value."""


def read() -> Settings:
    """Read the configuration from the environment.

    Raises:
        SettingsError: a value is not valid.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise _not_valid([f"{_variable(*map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]) from None


def with_options(settings: Settings, given: Mapping[str, object]) -> Settings:
    """The settings with options of the command line in place of `server`'s; an option that is None was not given.

    Raises:
        SettingsError: a value is not valid.
    """
    options = {name: value for name, value in given.items() if value is not None}
    try:
        server = ServerSettings.model_validate({**settings.server.model_dump(), **options})
    except ValidationError as error:
        options_told = [f"--{str(problem['loc'][0]).replace('_', '-')}: {problem['msg']}" for problem in error.errors()]
        raise _not_valid(options_told) from None
    return settings.model_copy(update={"server": server})


def lines(settings: Settings) -> Iterator[str]:
    """Each setting as the variable that would set it, secrets masked."""
    for section in type(settings).model_fields:
        values: BaseModel = getattr(settings, section)
        for name in type(values).model_fields:
            yield f"{_variable(section, name)}={_shown(getattr(values, name))}"


def _not_valid(problems: Sequence[str]) -> SettingsError:
    return SettingsError("The configuration is not valid.\n  " + "\n  ".join(problems))


def _variable(*path: str) -> str:
    return "ML_PLATFORM_" + "__".join(path).upper()


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return _MASK if value.get_secret_value() else ""
    return "" if value is None else _PASSWORD_IN_URL.sub(rf"\1:{_MASK}@", str(value))
