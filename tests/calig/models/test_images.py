"""Image files of every kind, damaged ones too; what a model's image processor makes of them; models refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from calig.attribution.explainer import Explainer
from calig.errors import DocumentError, InputError
from calig.models.images import ImageEncoder
from calig.models.loading import fingerprint, load_pretrained
from calig.models.pictures import picture_of
from calig.records import Document, Failure, image_key, missing_image_key
from tests.material import zoo


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def document(data: bytes) -> Document:
    return Document(image_key(data), image=data)


def seen(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(picture_of(document(data)))


RED_OVER_BLUE = np.array([[[255, 0, 0]] * 4, [[0, 0, 255]] * 4], dtype=np.uint8)


def test_a_picture_keeps_its_pixels() -> None:
    assert seen(encoded(Image.fromarray(RED_OVER_BLUE))).tolist() == RED_OVER_BLUE.tolist()


def test_grey_and_black_and_white_are_grey_in_every_channel() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    assert seen(encoded(Image.fromarray(grey))).tolist() == np.stack([grey] * 3, axis=-1).tolist()
    white = Image.new("1", (3, 2), 1)
    assert (seen(encoded(white)) == 255).all()


def test_transparency_shows_white() -> None:
    clear = np.zeros((1, 3, 4), dtype=np.uint8)
    clear[0, :, :3] = (200, 0, 0)
    clear[0, :, 3] = (255, 0, 128)
    found = seen(encoded(Image.fromarray(clear)))[0]
    assert found[0].tolist() == [200, 0, 0]
    assert found[1].tolist() == [255, 255, 255]
    assert np.abs(found[2].astype(int) - [227, 127, 127]).max() <= 1, "half of red, half of white"
    palette = Image.fromarray(RED_OVER_BLUE).quantize(2)
    index = palette.getpixel((0, 0))
    found = seen(encoded(palette, transparency=index))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 0].tolist() == [0, 0, 255]


def test_cmyk_becomes_rgb() -> None:
    found = seen(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 3


def test_exif_turns_it_upright() -> None:
    lying = Image.fromarray(np.rot90(RED_OVER_BLUE, 1).copy())  # counter-clockwise: to be turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    assert seen(encoded(lying, "PNG", exif=exif)).tolist() == RED_OVER_BLUE.tolist()


def test_16_bits_are_scaled_and_not_clipped() -> None:
    deep = np.array([[0, 257, 25_700, 65_535]], dtype=np.uint16)
    assert seen(encoded(Image.fromarray(deep)))[0, :, 0].tolist() == [0, 1, 100, 255]


def test_16_bit_colour_is_scaled() -> None:
    """Written by hand: Pillow does not write such."""
    rows = b"".join(b"\0" + struct.pack(">3H", *colour) for colour in ((65_535, 0, 32_896), (0, 257, 25_700)))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">2I5B", 1, 2, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    assert seen(data).tolist() == [[[255, 0, 128]], [[0, 1, 100]]]


def png(bits: int, colour: int, row: bytes, width: int, transparent: bytes) -> bytes:
    """One row of pixels, of which those of one value are transparent; Pillow does not write such."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, 1, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", transparent) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "colour", "row", "transparent", "expected"),
    [
        (16, 0, struct.pack(">3H", 0, 0x1234, 0x8080), struct.pack(">H", 0x1234), [0, 255, 128]),
        (16, 0, struct.pack(">3H", 0, 0x1235, 0x8080), struct.pack(">H", 0), [255, 18, 128]),
        (16, 2, struct.pack(">9H", *[0] * 3, *[0x1234] * 3, *[0x8080] * 3), b"\x12\x34" * 3, [0, 255, 128]),
        (8, 0, bytes([0, 18, 128]), struct.pack(">H", 18), [0, 255, 128]),
        (4, 0, bytes([0x03, 0x50]), struct.pack(">H", 3), [0, 255, 85]),
        (2, 0, bytes([0b00011000]), struct.pack(">H", 1), [0, 255, 170]),
        (1, 0, bytes([0b01000000]), struct.pack(">H", 0), [255, 255, 255]),
    ],
    ids=["16-bit grey", "16-bit black", "16-bit colour", "8-bit grey", "4-bit grey", "2-bit grey", "1-bit"],
)
def test_a_transparent_value_is_white_in_any_depth(
    bits: int, colour: int, row: bytes, transparent: bytes, expected: list[int]
) -> None:
    assert seen(png(bits, colour, row, 3, transparent))[0, :, 0].tolist() == expected


def test_grey_of_premultiplied_alpha_is_put_on_white() -> None:
    grey = Image.new("La", (2, 1))
    grey.putpixel((1, 0), (9, 255))
    assert np.asarray(picture_of(Document("k", image=grey)))[0, :, 0].tolist() == [255, 9]


def test_floating_point_tiff_is_scaled() -> None:
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert seen(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "white")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert seen(data).reshape(-1, 3).tolist() == [[255, 0, 0]] * 16


def test_one_pixel_is_a_picture() -> None:
    assert seen(encoded(Image.new("RGB", (1, 1), "red"))).tolist() == [[[255, 0, 0]]]


def test_24_megapixels_take_seconds() -> None:
    data = encoded(Image.new("RGB", (6000, 4000), "green"), "JPEG")
    start = time.perf_counter()
    assert seen(data).shape == (4000, 6000, 3)
    assert time.perf_counter() - start < 30


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "empty", "no image"),
        (b"this is a text", "undecodable", "cannot identify image file"),
        (encoded(PICTURE, "JPEG")[:900], "undecodable", "truncated"),
        (encoded(PICTURE)[:900], "undecodable", "not a readable image"),
        (encoded(PICTURE)[:20] + b"\xff" * 200, "undecodable", "not a readable image"),
        (b"GIF89a" + b"\0" * 10, "undecodable", "not a readable image"),
    ],
)
def test_damaged_files_fail_with_a_reason(data: bytes, reason: str, says: str) -> None:
    with pytest.raises(DocumentError, match=says) as caught:
        picture_of(document(data))
    assert caught.value.reason == reason
    assert "0x" not in caught.value.detail
    assert "\n" not in caught.value.detail


def test_any_flipped_byte_is_a_picture_or_a_reason() -> None:
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        good = encoded(PICTURE.resize((16, 16)), kind)
        rng = np.random.default_rng(1)
        for _ in range(60):
            bad = bytearray(good)
            for place in rng.integers(0, len(good), 3):
                bad[place] = int(rng.integers(0, 256))
            with contextlib.suppress(DocumentError):
                assert picture_of(document(bytes(bad))).mode == "RGB"


def test_a_bomb_is_not_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    start = time.perf_counter()
    with pytest.raises(DocumentError, match="limit") as caught:
        picture_of(document(data))
    assert caught.value.reason == "too-large"
    assert time.perf_counter() - start < 2


def test_files_are_read_and_must_be_what_was_brought_in(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    data = encoded(PICTURE)
    path.write_bytes(data)
    key = hashlib.sha256(data).hexdigest()
    assert np.array_equal(np.asarray(picture_of(Document(key, image=path))), np.asarray(PICTURE))
    picture_of(Document(key, label=2, image=path))
    path.write_bytes(data + b"\0")
    with pytest.raises(InputError, match=r"a\.png changed since the corpus was brought in"):
        picture_of(Document(key, image=path))
    path.unlink()
    with pytest.raises(InputError, match="is gone; bring it back"):
        picture_of(Document(key, image=path))
    with pytest.raises(DocumentError, match="no such file") as caught:
        picture_of(Document(missing_image_key(str(path)), image=path))
    assert caught.value.reason == "no-file"


def encoder(square: int | None = None, **options: Any) -> ImageEncoder:
    return ImageEncoder(
        zoo.shared("vit", "float32").model, zoo.processor(**options), ("[CLS]",), True, square
    )


def test_pixel_values_are_the_processor_s_own() -> None:
    """As a model is run by hand: `processor(image)`, for pictures of other sizes and shapes too."""
    for options in (
        {},
        {"image_mean": [0.48, 0.45, 0.4], "image_std": [0.27, 0.26, 0.28]},
        {"do_normalize": False},
        {"do_rescale": False},
    ):
        processor = zoo.processor(**options)
        for picture in (PICTURE, PICTURE.resize((9, 31)), PICTURE.convert("L").resize((1, 1))):
            (found,) = encoder(**options).read([Document("", image=picture)])
            assert not isinstance(found, Failure)
            own = processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"][0]
            assert torch.equal(found.pixels, own)


def test_thumbnails_are_what_the_model_saw() -> None:
    for options in (
        {},
        {"image_mean": [0.48, 0.45, 0.4], "image_std": [0.27, 0.26, 0.28]},
        {"do_rescale": False, "do_normalize": False},
    ):
        (found,) = encoder(**options).read([Document("", image=PICTURE)])
        assert not isinstance(found, Failure)
        shown = np.asarray(Image.open(io.BytesIO(found.thumbnail() or b"")))
        resized = np.asarray(PICTURE.resize((zoo.SIDE, zoo.SIDE), Image.Resampling.BILINEAR))
        assert np.abs(shown.astype(int) - resized).max() <= 1


def test_thumbnails_are_small() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (640, 320, 3), dtype=np.uint8))
    (found,) = encoder(size={"height": 640, "width": 320}).read([Document("", image=noise)])
    assert not isinstance(found, Failure)
    data = found.thumbnail() or b""
    assert Image.open(io.BytesIO(data)).size == (64, 128)
    assert len(data) < 16_000


@pytest.mark.parametrize(
    ("options", "grid"),
    [
        ({}, (5, 5)),
        (
            {"size": {"shortest_edge": 26}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True},
            (5, 5),
        ),
        ({"size": {"shortest_edge": 24}}, (5, 5)),
    ],
)
def test_another_image_size_gives_another_grid(options: dict[str, Any], grid: tuple[int, int]) -> None:
    (found,) = encoder(40, **options).read([Document("", image=PICTURE)])
    assert not isinstance(found, Failure)
    assert found.grid == grid
    assert found.shape == (3, 40, 40)


def test_a_patch_marked_is_its_own_pixels_and_nothing_beside() -> None:
    """The sides are no multiple of a patch: what is in no patch is not marked."""
    (found,) = encoder().read([Document("", image=torch.zeros(3, 29, 17))])
    assert not isinstance(found, Failure)
    assert found.grid == (3, 2)
    marked = found.in_pixels(torch.tensor([[False, False], [False, True], [True, False]]))
    expected = torch.zeros(29, 17, dtype=torch.bool)
    expected[8:16, 8:16] = True
    expected[16:24, 0:8] = True
    assert torch.equal(marked, expected)


def test_a_strip_that_would_be_enlarged_without_end_is_refused() -> None:
    """Its processor enlarges the short side, and the long one with it."""
    strip = Image.new("RGB", (1, 200_000))
    (found,) = encoder(size={"shortest_edge": 24}).read([Document("k", image=strip)])
    assert isinstance(found, Failure)
    assert found.reason == "too-large"


def test_grey_models_are_given_one_channel(tmp_path: Path) -> None:
    zoo.save("vit", tmp_path, num_channels=1)
    zoo.processor(image_mean=[0.5], image_std=[0.5]).save_pretrained(tmp_path)
    (a,) = Explainer.from_pretrained(str(tmp_path), steps=6).explain([PICTURE])
    assert len(a.tokens) == 10
    assert a.thumbnail is not None
    assert Image.open(io.BytesIO(a.thumbnail)).mode == "L"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("Swin", "swin models cannot be explained: they attend within windows and merge patches"),
        ("Swinv2", "windows"),
        ("Pvt", "they pool or merge patches"),
        ("ResNet", "convolutional"),
        ("ConvNext", "convolutional"),
    ],
)
def test_models_without_tokens_of_their_own_are_refused(kind: str, says: str, tmp_path: Path) -> None:
    small = {
        "Swin": {"depths": [1, 1], "num_heads": [1, 1], "embed_dim": 8, "image_size": 32, "window_size": 2}
    }
    config = getattr(transformers, f"{kind}Config")(**small.get(kind, {}))
    getattr(transformers, f"{kind}ForImageClassification")(config).save_pretrained(tmp_path)
    zoo.processor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=says):
        load_pretrained(str(tmp_path))


def test_a_model_without_image_processor_is_refused(tmp_path: Path) -> None:
    zoo.save("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="no usable image processor"):
        load_pretrained(str(tmp_path))


def test_the_fingerprint_covers_the_processor(tmp_path: Path) -> None:
    zoo.save("vit", tmp_path)
    before = fingerprint(load_pretrained(str(tmp_path)))
    assert fingerprint(load_pretrained(str(tmp_path))) == before
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({**settings, "image_mean": [0.4, 0.5, 0.5]})
    )
    assert fingerprint(load_pretrained(str(tmp_path))) != before


def test_a_head_that_was_never_trained_is_refused(tmp_path: Path) -> None:
    zoo.save("vit", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(InputError, match="without a trained classification head"):
        load_pretrained(str(tmp_path))
