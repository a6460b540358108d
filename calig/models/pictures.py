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

from calig.errors import DocumentError, InputError
from calig.records import Document, image_key, missing_image_key, outside_image_key

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
    if isinstance(image, torch.Tensor):
        image = _of_tensor(image)
    if not isinstance(image, Image.Image):
        data = _bytes(document)
        if not data:
            raise DocumentError("empty", "there is no image: its file, or its value, has no bytes")
        image = _opened(data)
    return _upright(image).convert("RGB" if channels == 3 else "L")


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
    if image_key(data, document.label) != document.key:
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
            return image.copy() if getattr(image, "n_frames", 1) > 1 else image
    except (DocumentError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DocumentError("too-large", f"more pixels than the limit of {MAX_PIXELS:,}") from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        reason = " ".join(str(error).split()).replace(" <_io.BytesIO object", " the file").split(" at 0x")[0]
        raise DocumentError(
            "undecodable", f"not a readable image: {reason or type(error).__name__}"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # EXIF that cannot be read turns nothing
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _of_wide(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return image


def _of_wide(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floats up to 1 or 255, as 8 bits."""
    values = np.asarray(image, dtype=np.float64)
    largest = float(values.max(initial=0.0))
    if image.mode == "F":
        scale = 255.0 if largest <= 1 else 1.0
    else:
        scale = 1.0 if image.mode == "I" and largest <= 255 else 1 / 257
    return Image.fromarray(np.clip(np.rint(np.nan_to_num(values) * scale), 0, 255).astype(np.uint8))


def _of_tensor(tensor: torch.Tensor) -> Image.Image:
    """A (C, H, W) tensor of bytes as a picture."""
    array: Any = tensor.detach().cpu().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
