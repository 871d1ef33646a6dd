"""Emoji of several artists as a data set in colour: a class a code point, a picture an artist."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from innerloop.data.known.folders import new_folder
from innerloop.data.pictures import read_picture
from innerloop.data.progress import progress_bar
from innerloop.errors import UserError
from innerloop.files import at_home

# Artists that have to have drawn a class: four queries and one support picture.
LEAST = 5
_NAMES = "data-by-emoji.json"
_CODE = re.compile(r"(?:emoji_)?u?([0-9a-f]{4,6}(?:[-_][0-9a-f]{2,6})*)\.(png|svg)", re.IGNORECASE)
# A picture: what makes an image of it, of so many pixels a side.
Drawing = Callable[[int], Image.Image]


@dataclass(frozen=True)
class Emoji:
    """A class.

    Attributes:
        code: code points in hexadecimal, without variation selectors, as in `1f600`.
        name: for people, as in `grinning-face`.
        group: Unicode's category, as in `smileys-emotion`.
    """

    code: str
    name: str
    group: str


def prepare_emoji(
    source: str | Path,
    out: str | Path,
    *,
    image_size: int = 64,
    least: int = LEAST,
    progress: bool = False,
) -> dict[str, Any]:
    """Write emoji as `GROUP/CODE-NAME/ARTIST.png`, in colour on white.

    Args:
        source: a folder with `data-by-emoji.json` (npm's `unicode-emoji-json`), which has names and
            categories, and with the artists' pictures: packages of Iconify (`icons.json`), which
            need the extra `innerloop[svg]`, or a folder an artist with files such as
            `1f600.png`, `emoji_u1f600.svg`.  All may lie deeper, as in `node_modules`.
        out: a new folder; it is there in the end as a whole, or not at all.
        image_size: pixels a side.
        least: classes that fewer artists have drawn are left out.
        progress: show progress on standard error.

    Returns:
        Plain values: `written`, `images`, `classes`, `groups`, `artists`.

    Raises:
        UserError: nothing fits, a file is damaged, or `out` is there already.
    """
    source, out = at_home(source), at_home(out)
    if not source.is_dir():
        raise UserError(f"{source} is not a folder")
    emoji = _emoji(source)
    drawn: dict[Emoji, dict[str, Drawing]] = defaultdict(dict)
    for artist, drawings in _artists(source, emoji):
        for one, drawing in drawings:
            drawn[one].setdefault(artist, drawing)
    kept = {one: artists for one, artists in drawn.items() if len(artists) >= least}
    if not kept:
        most = max(map(len, drawn.values()), default=0)
        raise UserError(
            f"no emoji in {source} is drawn by {least} artists (at most by {most}): fetch more "
            "packages, such as npm's @iconify-json/noto, twemoji, openmoji, fluent-emoji-flat"
        )
    images = sum(map(len, kept.values()))
    with new_folder(out) as place, progress_bar("prepare emoji", images, shown=progress) as step:
        for one, artists in kept.items():
            folder = place / one.group / f"{one.code}-{one.name}"
            folder.mkdir(parents=True)
            for artist, drawing in artists.items():
                drawing(image_size).save(folder / f"{artist}.png")
                step(1)
    return {
        "written": str(out),
        "images": images,
        "classes": len(kept),
        "groups": len({one.group for one in kept}),
        "artists": sorted({artist for artists in kept.values() for artist in artists}),
    }


def _emoji(source: Path) -> dict[str, Emoji]:
    """All emoji but those that are others in another skin, by their code."""
    files = sorted(source.rglob(_NAMES))
    if not files:
        raise UserError(
            f"{source} has no {_NAMES}, with names and categories: fetch npm's unicode-emoji-json"
        )
    found = {}
    for text, facts in _json(files[0]).items():
        code = "-".join(f"{ord(c):x}" for c in text if ord(c) != 0xFE0F)
        slug, group = str(facts["slug"]), str(facts["group"])
        found[code] = Emoji(code, _dashes(slug), _dashes(group))
    return found


def _dashes(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))


def _letters(text: str) -> str:
    return "".join(re.findall(r"[a-z0-9]", text.lower()))


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as JSON ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} is not a table of names: fetch it again")
    return found


def _artists(
    source: Path, emoji: dict[str, Emoji]
) -> Iterator[tuple[str, Iterable[tuple[Emoji, Drawing]]]]:
    packages = {}
    for file in sorted(source.rglob("icons.json")):
        packages[file.parent.name] = _json(file), _codes(file.with_name("chars.json"))
    # Names of a code point: its own, and those that packages use which give the code point, too.
    by_name: dict[str, Emoji] = {}
    for one in emoji.values():
        names = [one.name]
        if "-" not in one.code:
            names.append(unicodedata.name(chr(int(one.code, 16)), ""))
        for name in filter(None, map(_letters, names)):
            by_name.setdefault(name, one)
    for _, codes in packages.values():
        for code, name in codes.items():
            if code in emoji:
                by_name.setdefault(_letters(name), emoji[code])
    for artist, (icons, codes) in packages.items():
        yield artist, _of_package(icons, codes, emoji, by_name)
    folders = defaultdict(list)
    for file in sorted(source.rglob("*.*")):
        match = _CODE.fullmatch(file.name)
        code = match[1].lower().replace("_", "-").replace("-fe0f", "") if match else ""
        if code in emoji:
            folders[file.parent.name].append((emoji[code], _of_file(file)))
    yield from folders.items()


def _codes(file: Path) -> dict[str, str]:
    """Names of a package by code point, where it says them."""
    found = _json(file) if file.is_file() else {}
    return {code.lower().replace("-fe0f", ""): str(name) for code, name in found.items()}


def _of_package(
    icons: Mapping[str, Any],
    codes: Mapping[str, str],
    emoji: Mapping[str, Emoji],
    by_name: Mapping[str, Emoji],
) -> Iterator[tuple[Emoji, Drawing]]:
    bodies, aliases = icons.get("icons", {}), icons.get("aliases", {})
    named = {name: by_name.get(_letters(name)) for name in (*bodies, *aliases)}
    named |= {name: emoji[code] for code, name in codes.items() if code in emoji}
    for name, one in named.items():
        icon = bodies.get(name) or bodies.get(aliases.get(name, {}).get("parent"))
        if one is not None and icon is not None:
            width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
            yield (
                one,
                _of_svg(
                    f'<svg xmlns="http://www.w3.org/2000/svg" '
                    f'xmlns:xlink="http://www.w3.org/1999/xlink" '
                    f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>',
                    name,
                ),
            )


def _of_svg(text: str, name: str) -> Drawing:
    return lambda size: render(text, size, name)


def _of_file(file: Path) -> Drawing:
    def draw(size: int) -> Image.Image:
        if file.suffix.lower() == ".svg":
            return render(file.read_text("utf-8"), size, str(file))
        return Image.fromarray(read_picture(file, 3, (size, size)).transpose(1, 2, 0).copy())

    return draw


def render(text: str, size: int, name: str) -> Image.Image:
    """An SVG on white, `size` pixels a side, its proportions kept.

    Raises:
        UserError: resvg is not installed, or cannot render it.
    """
    try:
        import resvg_py
    except ImportError:
        raise UserError(
            "pictures in SVG need resvg: pip install 'innerloop[svg]', or give PNG files"
        ) from None
    try:
        data = resvg_py.svg_to_bytes(
            svg_string=text, background="white", width=size, skip_system_fonts=True
        )
        with Image.open(io.BytesIO(bytes(data))) as rendered:
            picture = rendered.convert("RGB")
    except Exception as error:  # whatever the renderer finds wrong
        raise UserError(f"{name} cannot be rendered ({error})") from error
    if picture.height > size:
        picture = picture.resize((size * size // picture.height, size), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (size, size), "white")
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square
