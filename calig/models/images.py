"""Images as rows of patch tokens: the model's own image processor, and batches of one size.

T tokens of an image are what the model puts first (a class token, registers, …), which is special, and then patches,
row by row. What is left of an image at its right and below, narrower than a patch, no model reads. A floating-point
tensor is taken for pixel values as the model takes them; whatever else is given passes the model's image processor.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from calig.errors import DocumentError, InputError
from calig.faults import apart, failure_of
from calig.models.inputs import Batch, Encoded
from calig.models.pictures import picture_of
from calig.records import Document, Failure

THUMBNAIL = 128
"""Longest side of a thumbnail, in pixels."""
_LOSSLESS = 64
"""Longest side up to which a thumbnail is a PNG."""
_RESIZED_PIXELS = 5 * 10**7
"""Most pixels that a processor may make of one image: a long strip, its short side enlarged, has no end else."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a vision model expects: image and patch size as (height, width) in pixels, and channels."""

    image: tuple[int, int]
    patch: tuple[int, int]
    channels: int

    @classmethod
    def of(cls, config: Any) -> Geometry:
        """Read it from a model's configuration.

        Raises
        ------
        InputError
            It does not say.
        """
        vision = getattr(config, "vision_config", config)
        try:
            image, patch = _pair(vision.image_size), _pair(vision.patch_size)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(
                f"model.id: the configuration of {config.model_type} names no image_size and patch_size: its "
                "images are not cut into patches once and for all, so they are no tokens to explain"
            ) from error
        if min(*patch, image[0] - patch[0] + 1, image[1] - patch[1] + 1) < 1:
            raise InputError(
                f"model.id: its config.json has images of {image[0]} × {image[1]} pixels and patches of {patch[0]} × "
                f"{patch[1]}; correct image_size and patch_size there"
            )
        return cls(image, patch, int(getattr(vision, "num_channels", 3)))

    def grid(self, pixels: Tensor) -> tuple[int, int]:
        """Rows and columns of the patches of images (…, H, W)."""
        return pixels.shape[-2] // self.patch[0], pixels.shape[-1] // self.patch[1]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EncodedImage(Encoded):
    """One image as T tokens: `pixels` (C, H, W) as the model takes them, how they were scaled, and a patch's size."""

    pixels: Tensor
    scaling: Scaling
    patch: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.pixels.shape)

    def in_pixels(self, patches: Tensor) -> Tensor:
        """Of each pixel (…, H, W), whether its patch (…, rows, columns) is marked; what is in no patch is not."""
        wide = patches.repeat_interleave(self.patch[0], dim=-2).repeat_interleave(self.patch[1], dim=-1)
        height, width = self.pixels.shape[-2:]
        return functional.pad(wide, (0, width - wide.shape[-1], 0, height - wide.shape[-2]))

    def thumbnail(self) -> bytes | None:
        """What the model saw, as it saw it, small."""
        rows, columns = self.grid or (0, 0)
        image = self.scaling.picture(self.pixels[:, : rows * self.patch[0], : columns * self.patch[1]])
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        if max(image.size) <= _LOSSLESS:
            image.save(stream, "PNG", optimize=True)
        else:
            image.save(stream, "JPEG", quality=85)
        return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a processor makes pixel values of bytes: (byte · factor − mean) / std, per channel."""

    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Scaling:
        """Read it from an image processor's settings."""
        normalises = bool(settings.get("do_normalize"))
        mean, std = (
            tuple(np.ravel(settings.get(name) or 0.5).astype(float).tolist())
            for name in ("image_mean", "image_std")
        )
        factor = float(settings["rescale_factor"]) if settings.get("do_rescale") else 1.0
        return cls(factor, mean if normalises else (0.0,), std if normalises else (1.0,))

    def picture(self, pixels: Tensor) -> Image.Image:
        """Pixel values (C, H, W) as a picture again."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        levels = (pixels.float() * std + mean) / self.factor
        array: Any = levels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        return Image.fromarray(array[..., 0] if array.shape[2] == 1 else np.ascontiguousarray(array))


class ImageEncoder:
    """Encodes images for one model.

    Parameters
    ----------
    model, processor
        The model, and the image processor that was saved with it.
    special
        Names of the tokens that the model puts before the patches.
    resizes
        Whether the model takes images of other sizes than its own.
    size
        Height and width of the image in pixels, in place of the processor's.

    Raises
    ------
    InputError
        The model does not take images of that size.
    """

    window = 512

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        special: Sequence[str],
        resizes: bool,
        size: int | None = None,
    ) -> None:
        self.geometry = Geometry.of(model.config)
        self._special = list(special)
        self._resizes = resizes
        self._dtype = model.dtype
        self._processor = processor
        self._settings: dict[str, Any] = processor.to_dict()
        self._scaling = Scaling.of(self._settings)
        self._options: dict[str, Any] = {} if size is None else self._of_size(size)

    def read(self, documents: Sequence[Document]) -> list[EncodedImage | Failure]:
        """Decode and prepare images, in order; one that cannot be becomes a `Failure`."""
        found: list[EncodedImage | Failure] = []
        for document in documents:
            found += apart([document], self._prepare, _not_prepared)
        return found

    def _prepare(self, documents: Sequence[Document]) -> Sequence[EncodedImage | Failure]:
        return [self._encoded(self._pixels(document)) for document in documents]

    def batch(self, encoded: Sequence[EncodedImage], device: torch.device) -> Batch:
        """Stack images of one size."""
        pixels = torch.stack([image.pixels for image in encoded]).to(device, self._dtype)
        content = torch.from_numpy(~encoded[0].is_special).to(device)
        return Batch({"pixel_values": pixels}, content.expand(len(encoded), -1))

    def _pixels(self, document: Document) -> Tensor:
        """(C, H, W) pixel values of a document."""
        image = document.image
        if isinstance(image, Tensor) and image.is_floating_point():
            if not bool(image.isfinite().all()):
                raise DocumentError("non-finite", "the image's pixel values are NaN or infinite")
            return image.detach().cpu()
        picture = picture_of(document, self.geometry.channels)
        self._check_room(picture)
        if self.geometry.channels == 1:
            given: Any = np.asarray(picture)[..., None]
            made = self._processor(
                images=given, return_tensors="pt", input_data_format="channels_last", **self._options
            )
        else:
            made = self._processor(images=picture, return_tensors="pt", **self._options)
        pixels: Tensor = made["pixel_values"][0]
        return pixels

    def _encoded(self, pixels: Tensor) -> EncodedImage:
        height, width = pixels.shape[-2:]
        own = self.geometry
        if pixels.ndim != 3 or len(pixels) != own.channels:
            raise DocumentError(
                "shape",
                f"its shape is {tuple(pixels.shape)}; the model takes ({own.channels}, height, width)",
            )
        if height < own.patch[0] or width < own.patch[1]:
            raise DocumentError(
                "shape", f"{height} × {width} pixels are less than a patch of {own.patch[0]} × {own.patch[1]}"
            )
        if (height, width) != own.image and not self._resizes:
            raise DocumentError(
                "shape", f"{height} × {width} pixels; the model takes {own.image[0]} × {own.image[1]} only"
            )
        rows, columns = own.grid(pixels)
        first = len(self._special)
        places = np.indices((rows, columns), dtype=np.int32).reshape(2, -1).T
        patches = np.concatenate([np.full((first, 2), -1, dtype=np.int32), places])
        outside = np.full(len(patches), -1, dtype=np.int32)
        return EncodedImage(
            tokens=[*self._special, *(f"{row},{column}" for row, column in places)],
            word_ids=outside,
            char_spans=np.zeros((len(patches), 2), dtype=np.int32),
            segments=outside,
            is_special=np.arange(len(patches)) < first,
            patches=patches,
            grid=(rows, columns),
            pixels=pixels,
            scaling=self._scaling,
            patch=own.patch,
        )

    def _of_size(self, size: int) -> dict[str, Any]:
        """The processor's options for square images of another size."""
        patch, own = self.geometry.patch, self.geometry.image
        if size < max(patch):
            raise InputError(
                f"method.image_size: {size} is less than a patch of {patch[0]} × {patch[1]} pixels; raise it"
            )
        if (size, size) != own and not self._resizes:
            raise InputError(
                f"method.image_size: the model takes images of {own[0]} × {own[1]} pixels only; remove it"
            )
        square = {"height": size, "width": size}
        shortest = (self._settings.get("size") or {}).get("shortest_edge")
        if not shortest:
            return {"size": square}
        crop = self._settings.get("crop_size") if self._settings.get("do_center_crop") else None
        ratio = size / (crop or {}).get("height", shortest)
        return {
            "size": {"shortest_edge": round(shortest * ratio)},
            "crop_size": square,
            "do_center_crop": True,
        }

    def _check_room(self, picture: Image.Image) -> None:
        size = self._options.get("size") or self._settings.get("size") or {}
        shortest = size.get("shortest_edge")
        if not shortest:
            return
        low, high = sorted(picture.size)
        if shortest * shortest * high / low > _RESIZED_PIXELS:
            raise DocumentError(
                "too-large",
                f"{picture.width} × {picture.height} pixels: with {shortest} for the short side, too many in all",
            )


def _not_prepared(document: Document, error: BaseException) -> Failure:
    return failure_of(document.key, error, "not-prepared", "the image processor")


def blurred(pixels: Tensor, sigma: float | None = None) -> Tensor:
    """Images (B, C, H, W) under a Gaussian blur, edges repeated; `sigma` in pixels, or an eighth of a side."""
    sigma = sigma or min(pixels.shape[-2:]) / 8
    for axis in (-2, -1):
        radius = min(int(3 * sigma + 0.5), 4 * pixels.shape[axis])
        offsets = torch.arange(-radius, radius + 1, dtype=pixels.dtype, device=pixels.device)
        weights = (-(offsets**2) / (2 * sigma**2)).exp()
        kernel = (weights / weights.sum()).expand(pixels.shape[1], 1, -1)
        kernel = kernel[:, :, :, None] if axis == -2 else kernel[:, :, None, :]
        edge = (0, 0, radius, radius) if axis == -2 else (radius, radius, 0, 0)
        padded = functional.pad(pixels, edge, mode="replicate")
        pixels = functional.conv2d(padded, kernel, groups=pixels.shape[1])
    return pixels


def channel_means(pixels: Tensor) -> Tensor:
    """Images (B, C, H, W) of one colour each: their own mean, per channel."""
    return pixels.mean(dim=(-2, -1), keepdim=True).expand_as(pixels)


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)
