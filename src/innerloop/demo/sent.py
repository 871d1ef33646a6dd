"""Pictures that pages send in base64."""

from __future__ import annotations

import base64
import io

from PIL import Image, UnidentifiedImageError

from innerloop.data.header import open_header
from innerloop.data.kinds import unread_kind
from innerloop.errors import UserError


def sent_picture(text: str, formats: list[str], most: int) -> Image.Image:
    """A picture that was sent, decoded.

    Args:
        text: the file, in base64.
        formats: as Pillow names those that are taken, such as `["PNG"]`.
        most: pixels a side.

    Raises:
        UserError: it is none, damaged or too large.
    """
    kinds = " or ".join(formats)
    content = b""
    try:
        content = base64.b64decode(text)
        with open_header(io.BytesIO(content), formats) as picture:
            if max(picture.size) > most:
                raise UserError(f"a picture has more than {most} pixels a side: scale it down")
            picture.load()
            return picture
    except UserError:
        raise
    except UnidentifiedImageError as error:
        if kind := unread_kind("", content):
            raise UserError(f"a picture is {kind}, not {kinds}: convert it") from error
        raise UserError(f"a picture is not a {kinds} file in base64") from error
    except Exception as error:
        # Pillow's decoders raise whatever damaged bytes lead to.
        raise UserError(f"a picture is not a {kinds} file in base64 ({error})") from error
