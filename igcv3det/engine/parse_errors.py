"""jsonargparse's errors in one sentence: the key, what is wrong, the value."""

from __future__ import annotations

import re

_KEY = re.compile(r'Parser key "(?P<key>[^"]+)":\s*')
_UNION = "Does not validate against any of the Union subtypes"
_ITEM = re.compile(r"^ *- ", re.M)
_NO_SUBCLASS = "Not a valid subclass of"
_EXPECTED = re.compile(r"Expected an? (?P<kind>.+)")
_GOT = re.compile(r"(?:Given value|Got value): (?P<value>.*)", re.S)


def readable_reason(message: str) -> str:
    """The first thing in a message that the user can act on.

    Args:
        message: of jsonargparse, of several lines; where a value may have several types it lists
            why it has none of them.

    Example:
        >>> readable_reason("Expected a <class 'float'>. Got value: x")
        'expected float, got x'
    """
    key = _KEY.match(message)
    text = message[key.end() :] if key else message
    where = f"{key['key']}: " if key else ""
    got = _GOT.search(text)
    if _UNION in text:
        reasons = _alternatives(text.partition(_UNION)[2])
    else:
        reasons = [" ".join(text[: got.start()].split()).rstrip(".")] if got else []
    expected = [_EXPECTED.fullmatch(reason) for reason in reasons]
    special = [r for r, e in zip(reasons, expected, strict=True) if e is None]
    # of a list where a single object may stand too, the reason of its items is the one
    special.sort(key=lambda reason: reason.startswith(_NO_SUBCLASS))
    if special or got is None or not reasons:
        return where + " ".join((special[0] if special else text).split())
    kinds = " or ".join(_kind(e["kind"]) for e in expected if e is not None)
    return f"{where}expected {kinds}, got {' '.join(got['value'].split())}"


def _alternatives(text: str) -> list[str]:
    """The items of the outer list: those indented as the first; a reason may have a list too."""
    first = _ITEM.search(text)
    if first is None:
        return []
    item = "^" + re.escape(first[0])
    found = re.finditer(rf"{item}(.*?)(?={item}|^\s*Given value|\Z)", text, re.M | re.S)
    return [" ".join(match[1].split()) for match in found]


def _kind(text: str) -> str:
    """Types as users know them."""
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text).replace("NoneType", "null")
    return re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", text)
