"""Finds what a misspelt name may have been meant to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rapidfuzz import fuzz, process

SIMILAR = 0.7
"""How alike two names are at least, one of which may be the other misspelt: 1 is the same."""

# Names are compared on the event loop, at a microsecond a pair.
MOST_COMPARED = 1000
MOST_NAMED = 20
LONGEST_COMPARED = 64


def closest(
    name: str, names: Iterable[str], *, similar: float = SIMILAR, fold: Callable[[str], str] = str.casefold
) -> str | None:
    """The name of these that another resembles most, if one does.

    Args:
        name: the other; it may be long, and its beginning is compared.
        names: the first thousand are compared, but for long ones.
        similar: how alike they are at least.
        fold: makes alike what is written differently.
    """
    known = [each for each, _ in zip(names, range(MOST_COMPARED), strict=False) if len(each) <= LONGEST_COMPARED]
    best = process.extractOne(
        fold(name[:LONGEST_COMPARED]), [fold(each) for each in known], scorer=fuzz.ratio, score_cutoff=100 * similar
    )
    return known[best[2]] if best else None


def did_you_mean(wanted: Sequence[str], sent: Sequence[str]) -> str:
    """A sentence for each wanted name that a name sent resembles, with a space before it; empty if there is none."""
    close = [(name, closest(name, sent)) for name in wanted[:MOST_NAMED]]
    return "".join(f" Did you mean {name}: you sent {found}?" for name, found in close if found is not None)
