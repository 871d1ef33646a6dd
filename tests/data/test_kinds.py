"""Files that are no pictures, or of kinds that are not read: each is told what it is."""

from __future__ import annotations

import pytest

from innerloop import FewShotClassifier
from innerloop.data.given import each_picture
from innerloop.data.pictures import check_picture
from innerloop.errors import UserError

BOX = b"\0\0\0\x18ftyp"
CONVERT = "which is not read: convert it to PNG or JPEG"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1.jpg", BOX + b"heic\0\0\0\0mif1heic", f"is HEIC, {CONVERT}"),
        ("1.jpg", BOX + b"mif1\0\0\0\0mif1heic", f"is HEIF, {CONVERT}"),
        ("1.png", BOX + b"avif\0\0\0\0avif", f"is AVIF, {CONVERT}"),
        ("1.png", b"%PDF-1.7", f"is PDF, {CONVERT}"),
        ("1.png", b'<?xml version="1.0"?>\n<svg width="9"/>', f"is SVG, {CONVERT}"),
        ("1.HEIC", b"cut short", f"is HEIC, {CONVERT}"),
        ("1.cr2", b"raw", f"is CR2, {CONVERT}"),
        ("1.png", b"", "cannot be read as a picture (it is empty); replace or remove it"),
        ("1.png", b"?", "cannot be read as a picture (its format is not known); replace or "),
    ],
)
def test_kinds_are_told_by_content_and_ending(name, content, message, tmp_path):
    file = tmp_path / name
    file.write_bytes(content)
    for read in (
        check_picture,
        lambda file: next(each_picture([file])).rgb(),
        lambda file: FewShotClassifier("omniglot-protonet").fit([file, file], [0, 1]),
    ):
        with pytest.raises(UserError) as said:
            read(file)
        assert str(said.value).startswith(f"{file} {message}")
        assert "object at" not in str(said.value)
