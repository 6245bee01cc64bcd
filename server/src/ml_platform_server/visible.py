"""Whether a name consists of characters that a person can see, so that two names that look alike are one name."""

from __future__ import annotations

import re
import unicodedata

# Control, formatting and bidirectional characters, surrogates, private use, separators of lines and paragraphs, and blanks other
# than the plain one. Unassigned characters are not among them: an emoji may be newer than this Python.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"})

# Characters of other categories that fonts draw as nothing: fillers, blank patterns, variation selectors, what Unicode reserves
# for such use (Default_Ignorable_Code_Point), with the code points that are no characters.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufdd0-\ufdef\ufe00-\ufe0f\uffa0\ufff0-\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_TONE = "[\U0001f3fb-\U0001f3ff]"
# One emoji: a picture that a selector may color, pictures that joiners combine, a keycap, or a flag of a region.
_EMOJI = re.compile(
    f"\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"
    f"|[0-9#*]\ufe0f?\u20e3"
    f"|{_PICTURE}(?:\ufe0f|{_TONE})?(?:\u200d{_PICTURE}(?:\ufe0f|{_TONE})?)*"
)
_VIRAMA = 9


def what_is_wrong(name: str) -> str:
    """Why a person cannot see all of a name; empty if nothing is wrong."""
    if name.isascii() and name.isprintable():
        return "" if name.strip() else "must not be blank"
    plain = _EMOJI.sub("", name)
    for position, character in enumerate(plain):
        if character != " " and _invisible(plain, position):
            return f"holds the character U+{ord(character):04X}, which nobody can see"
    return "" if name.strip() else "must not be blank"


def _invisible(text: str, position: int) -> bool:
    character = text[position]
    if character in "\u200c\u200d":
        return not _joins(text, position)
    return unicodedata.category(character) in _INVISIBLE or _BLANK.match(character) is not None


def _joins(text: str, position: int) -> bool:
    """Whether a joiner stands where a script needs it: after a virama, or between two Arabic letters."""
    before, after = text[position - 1 : position], text[position + 1 : position + 2]
    if not before or not after:
        return False
    arabic = unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
    return arabic or unicodedata.combining(before) == _VIRAMA
