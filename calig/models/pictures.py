"""From what people have to a picture: image files of any kind, damaged ones too, as upright pixels of 8 bits.

The first frame of an animation; turned as its EXIF says; on white where it is transparent; 16 bits scaled to 8, which
Pillow's own conversion would clip; CMYK and palettes to RGB.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from calig.errors import DocumentError, InputError, first_line
from calig.faults import is_documents
from calig.records import Document, image_key, missing_image_key, outside_image_key

_PNG = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 2 * 10**8
"""A picture of more pixels is not decoded: it would take gigabytes, and may have been made to."""


def picture_of(document: Document, channels: int = 3) -> Image.Image:
    """Decode a document's image; `channels` is 3 for RGB or 1 for grey.

    Raises
    ------
    DocumentError
        There is nothing to decode, or it cannot be decoded, or is too large.
    InputError
        The file is not what it was when the corpus was brought in.
    """
    image = document.image
    if not isinstance(image, Image.Image | torch.Tensor):
        data = _bytes(document)
        if not data:
            raise DocumentError("empty", "there is no image: its file, or its value, has no bytes")
        image = _opened(data)
    if 0 in (image.size if isinstance(image, Image.Image) else image.shape):
        raise DocumentError("empty", "the picture has no pixels")
    try:
        picture = _of_tensor(image) if isinstance(image, torch.Tensor) else image
        return _upright(picture).convert("RGB" if channels == 3 else "L")
    except BaseException as error:
        if not is_documents(error):
            raise
        kind = f"mode {image.mode}" if isinstance(image, Image.Image) else f"shape {tuple(image.shape)}"
        raise DocumentError(
            "undecodable", f"no picture can be made of one of {kind}: {first_line(error)}"
        ) from error


def _bytes(document: Document) -> bytes:
    path = document.image
    if not isinstance(path, Path):
        return bytes(path or b"")
    if document.key == missing_image_key(str(path)):  # it may be a pipe or a device: not to be opened
        raise DocumentError("no-file", f"no such file when the corpus was brought in: {path}")
    if document.key == outside_image_key(str(path)):
        raise DocumentError(
            "outside",
            f"not opened, since it leads out of the corpus's folder: {path}; let corpus.path begin with a folder that "
            "holds both, as in data/*/list.csv",
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"{path} was there when the corpus was brought in, and is gone; bring it back, or run the audit again"
        ) from error
    if image_key(data) != document.key:
        raise InputError(f"{path} changed since the corpus was brought in; run the audit again")
    return data


def _opened(data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DocumentError(
                    "too-large",
                    f"{image.width} × {image.height} pixels are above the limit of {MAX_PIXELS:,}",
                )
            image.load()
            _scale_key(image, data)
            return image.copy() if getattr(image, "n_frames", 1) > 1 else image
    except DocumentError:
        raise
    except Image.DecompressionBombError as error:
        raise DocumentError("too-large", f"more pixels than the limit of {MAX_PIXELS:,}") from error
    except BaseException as error:  # decoders raise whatever damaged bytes lead them to
        if not is_documents(error):
            raise
        reason = " ".join(str(error).split()).replace(" <_io.BytesIO object", " the file").split(" at 0x")[0]
        raise DocumentError(
            "undecodable", f"not a readable image: {reason or type(error).__name__}"
        ) from error


def _scale_key(image: Image.Image, data: bytes) -> None:
    """Bring the value that is transparent in a PNG to the 8 bits of the pixels, which Pillow leaves in the file's bits.

    Of 16-bit colours the high bytes are compared, since Pillow keeps no more of the pixels.
    """
    key = image.info.get("transparency")
    if not data.startswith(_PNG) or len(data) < 26:
        return
    bits = data[24]
    if isinstance(key, int) and image.mode == "L" and bits in (2, 4) and key < 2**bits:
        image.info["transparency"] = key * 255 // (2**bits - 1)
    if isinstance(key, tuple) and bits == 16:
        image.info["transparency"] = tuple(part >> 8 for part in key)


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # EXIF that cannot be read turns nothing
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _of_wide(image)
    if image.mode == "La":  # which Pillow converts to LA alone
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return image


def _of_wide(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floats up to 1 or 255, as 8 bits; white where the value is the transparent one."""
    values = np.asarray(image, dtype=np.float64)
    largest = float(values.max(initial=0.0))
    if image.mode == "F":
        scale = 255.0 if largest <= 1 else 1.0
    else:
        scale = 1.0 if image.mode == "I" and largest <= 255 else 1 / 257
    grey = np.clip(np.rint(np.nan_to_num(values) * scale), 0, 255).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey = np.where(values == key, np.uint8(255), grey)
    return Image.fromarray(grey)


def _of_tensor(tensor: torch.Tensor) -> Image.Image:
    """A (C, H, W) tensor of bytes as a picture."""
    array: Any = tensor.detach().cpu().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
