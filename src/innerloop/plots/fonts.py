"""Fonts with Chinese characters, and with others that names may have."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import warnings
from collections.abc import Iterable, Iterator

from matplotlib import font_manager

# Of Linux, macOS and Windows.  Matplotlib sees only the first face of a collection: of Noto's, the
# Japanese one, which has the Chinese characters as well.
CHINESE_FONTS = (
    *("Noto Sans SC", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti TC", "STHeiti", "Arial Unicode MS"),
    *("Microsoft YaHei", "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
)
LATIN_FONT = "DejaVu Sans"  # comes with Matplotlib
# Fonts that have a box for every character.
_BOXES = ("Last Resort", ".LastResort", "LastResort")


@functools.cache
def on_this_machine() -> tuple[str, ...]:
    """Those of the fonts that this machine has."""
    if not _known():
        # Matplotlib's list was written when it was first used: a font may have come since.
        manager = font_manager.fontManager
        old = {font.fname for font in manager.ttflist}
        for file in set(font_manager.findSystemFonts()) - old:
            with contextlib.suppress(OSError, RuntimeError):  # a damaged font
                manager.addfont(file)
    return _known()


def _known() -> tuple[str, ...]:
    there = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(font for font in CHINESE_FONTS if font in there)


def having(characters: Iterable[str]) -> list[str]:
    """Fonts of this machine, whatever they are for, that have some of these characters."""
    wanted, found = {ord(each) for each in characters}, []
    for font in font_manager.fontManager.ttflist:
        if not wanted:
            break
        if font.name.startswith(_BOXES):
            continue
        with contextlib.suppress(OSError, RuntimeError):  # a damaged font
            has = wanted & font_manager.get_font(font.fname).get_charmap().keys()
            if has:
                found.append(font.name)
                wanted -= has
    return found


def file_for_each(characters: Iterable[str]) -> dict[str, str]:
    """The file of a font of this machine for each character; without those that no font has."""
    found: dict[str, str] = {}
    left = set(characters)

    def take(fonts: Iterable[str]) -> None:
        for font in fonts:
            with contextlib.suppress(OSError, RuntimeError, ValueError):  # a damaged font
                file = font_manager.findfont(font, fallback_to_default=False)
                face = font_manager.get_font(file)
                has = {each for each in left if ord(each) in face.get_charmap()}
                if face.scalable:  # else of one size, as pictures of emoji are
                    found.update(dict.fromkeys(has, file))
                    left.difference_update(has)

    take([LATIN_FONT])
    if left:
        take(on_this_machine())
    if left:
        take(having(left))
    return found


@contextlib.contextmanager
def lacking() -> Iterator[set[str]]:
    """Gives a set to which the characters are added, at the end, that Matplotlib had no font for.

    It does not warn of them itself.
    """
    found: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    for each in caught:
        if match := re.match(r"Glyph (\d+) .*missing from", str(each.message)):
            found.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


@contextlib.contextmanager
def quiet(*, glyphs: bool = False) -> Iterator[None]:
    """Within it, Matplotlib does not log a font or a weight that this machine lacks.

    Args:
        glyphs: nor does it warn of characters without a font, as the reader has one.
    """
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            if glyphs:
                warnings.filterwarnings("ignore", "Glyph .* missing from font")
            yield
    finally:
        logger.setLevel(level)
