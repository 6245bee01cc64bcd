"""Days and moments as people write them: text, dates, datetimes."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.errors import invalid

Day = str | date | datetime


def to_day(value: Day | None, field: str) -> str | None:
    """A day as YYYY-MM-DD, from a date, a datetime or text. A moment with a time zone means its day in UTC."""
    if value is None:
        return None
    parsed = _parsed(value, field)
    return (_moment(parsed).astimezone(UTC).date() if isinstance(parsed, datetime) else parsed).isoformat()


def to_start(value: Day, field: str) -> Timestamp:
    """The start of a window: a day begins at midnight UTC; a moment is taken as it is."""
    return _timestamp(_moment(_parsed(value, field)), field)


def to_end(value: Day, field: str) -> Timestamp:
    """The end of a window, excluded: a day counts in full, so it ends at the next midnight UTC; a moment is taken as it is."""
    parsed = _parsed(value, field)
    if isinstance(parsed, datetime):
        return _timestamp(_moment(parsed), field)
    if parsed == date.max:
        raise invalid(field, "has no next day")
    return _timestamp(_moment(parsed + timedelta(days=1)), field)


def to_moment(value: Day, field: str) -> Timestamp:
    """A point in time. Without a time zone it is UTC."""
    return to_start(value, field)


def to_duration(value: float | timedelta | None, field: str) -> Duration | None:
    """A span of time from a timedelta or a number of seconds."""
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < float("inf"):
        raise invalid(field, f"{value!r} is neither a timedelta nor a number of seconds, 0 or more")
    duration = Duration()
    try:
        duration.FromMicroseconds(round(seconds * 1e6))  # Feast keeps nothing finer.
    except ValueError:
        raise invalid(field, f"{value!r} is longer than 10,000 years") from None
    return duration


def _parsed(value: Day, field: str) -> date | datetime:
    if isinstance(value, date) and value == value:  # noqa: PLR0124  # pandas' NaT is a datetime that differs from itself
        return value
    try:
        return date.fromisoformat(value)  # type: ignore[arg-type]  # what is neither text nor a date is refused just below
    except (TypeError, ValueError):
        pass
    try:
        return datetime.fromisoformat(value)  # type: ignore[arg-type]  # as above
    except (TypeError, ValueError):
        raise invalid(field, f"{value!r} is not a day (YYYY-MM-DD) nor a moment (YYYY-MM-DDTHH:MM:SS)") from None


def _moment(value: date | datetime) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.combine(value, time(), tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _timestamp(moment: datetime, field: str) -> Timestamp:
    stamp = Timestamp()
    try:
        stamp.FromDatetime(moment)
    except (OverflowError, ValueError):
        raise invalid(field, f"{moment.isoformat()} lies outside of the years 1 to 9999 in UTC") from None
    return stamp
