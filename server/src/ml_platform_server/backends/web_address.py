"""The address of a backend's web interface, as links to its pages begin with it."""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("http", "https")


def web_address(url: str) -> str:
    """The scheme, host, port and path of an address, without credentials; empty if no web server can be there.

    Userinfo, query and fragment are dropped, because each may hold a secret. An "@" after the host means that a password with an
    unencoded "/", "?" or "#" was split; then the host is a part of the credentials, and there is no address.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises ValueError for a port that is no number.
    except ValueError:
        return ""
    if parts.scheme not in SCHEMES or not parts.hostname or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
