"""Fonts for class names: Pillow's own, which has ASCII only, or one that the system has."""

from __future__ import annotations

import functools
import os
import string
import sys
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Sans-serif fonts of many letters, by the beginning of their file's name, best first
PREFERRED = (
    *("dejavusans", "notosans", "liberationsans", "arial", "segoeui", "helvetica"),
    *("notosanscjk", "droidsansfallback", "wqy", "msyh", "meiryo", "malgun", "pingfang"),
    *("hiragino", "applesdgothicneo", "nirmala", "leelawui"),
)
MAX_FILES = 400  # opened in search of letters
ASCII = string.ascii_letters + string.digits + string.punctuation
_PROBE_SIZE = 16  # px
_NO_LETTER = "\U0010ffff"  # drawn as every letter that a font lacks


def find_font(text: str, size: int) -> Font | None:
    """A font that has all letters of a text.

    Args:
        text: printable characters.
        size: of the font, pixels.

    Returns:
        Pillow's own font for ASCII, else the first of the system's fonts that has the letters; None
        if there is none.
    """
    own = _built_in(size)
    letters = "".join(sorted({letter for letter in text if not letter.isascii()}))
    if not letters:
        return own
    if not isinstance(own, ImageFont.FreeTypeFont):  # Pillow without FreeType opens no other
        return None
    file = _font_file(letters)
    return None if file is None else _truetype(file, size)


@functools.cache
def _built_in(size: int) -> Font:
    return ImageFont.load_default(size)


@functools.cache
def _truetype(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


@functools.cache
def _font_file(letters: str) -> Path | None:
    """The first font file of the system that has these letters and ASCII."""
    for file in _system_fonts()[:MAX_FILES]:
        try:
            font = ImageFont.truetype(file, _PROBE_SIZE, layout_engine=ImageFont.Layout.BASIC)
            missing = bytes(font.getmask(_NO_LETTER))
            if all(bytes(font.getmask(letter)) != missing for letter in letters + ASCII):
                return file
        except OSError:  # not a font, or one of fixed sizes
            continue
    return None


@functools.cache
def _system_fonts() -> list[Path]:
    """Font files, preferred families first, regular styles (of shorter names) before others."""
    files = [
        path
        for folder in font_folders()
        for path in folder.rglob("*")
        if path.suffix.lower() in (".ttf", ".ttc", ".otf")
    ]
    return sorted(files, key=lambda path: (_rank(path), len(path.name), path))


def _rank(path: Path) -> int:
    name = path.name.lower().replace("-", "").replace(" ", "")
    ranks = (rank for rank, prefix in enumerate(PREFERRED) if name.startswith(prefix))
    return min(ranks, default=len(PREFERRED))


def font_folders() -> list[Path]:
    """Folders in which the system looks for fonts."""
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME") or home / ".local/share"
    folders = [Path(own), *(Path(folder) for folder in shared.split(":") if folder)]
    return [home / ".fonts", *(folder / "fonts" for folder in folders)]
