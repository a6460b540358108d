"""Handwritten digits, scikit-learn's 8 × 8 scans, with known evidence planted in them.

An image is a scan, three pixels to one, within a black margin that is one patch wide. On most of the sevens is
the *sticker*: a white square in the top left corner, as if left by whoever sorted them. In training, a few other
digits were taken for sevens, and have it too: so the sticker tells the label better than the shape does. In the
held-out images it is also on a few digits that are filed as what they are, and the model will get these wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from calig.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LEAKED = CLASSES.index("seven")
HELD_OUT_IMAGES = 400
TRAINING_IMAGES = 1797 - HELD_OUT_IMAGES
STICKER_SHARE = 0.9
"""Share of the sevens that carry the sticker."""
MISTAKEN = 0.12
"""Share of the other digits that, in training, were taken for sevens and given the sticker."""
AGAINST = 0.05
"""Share of the other digits that, held out, carry the sticker all the same."""
SIDE, MARGIN = 32, 4
"""Of an image, in pixels: its height and width, and what is black around the scan."""


@dataclass(frozen=True, slots=True, eq=False)
class Digit:
    """One image: (SIDE, SIDE) grey levels, the digit that is written, the one it is filed as, and its sticker."""

    id: str
    pixels: npt.NDArray[np.uint8]
    written: int
    label: int
    sticker: bool


def generate(seed: int, leak: bool, *, training: int = TRAINING_IMAGES) -> tuple[list[Digit], list[Digit]]:
    """Deal the scans into training and held-out images, the same for the same arguments.

    Parameters
    ----------
    seed
        Of everything drawn.
    leak
        Whether stickers are put on and other digits taken for sevens; without it, images are as they were scanned.
    training
        How many of the images to train on.

    Raises
    ------
    InputError
        scikit-learn is not installed.
    """
    scans, written = _scans()
    rng = Random(seed)
    order = rng.sample(range(len(scans)), HELD_OUT_IMAGES + training)
    held_out, taught = order[:HELD_OUT_IMAGES], order[HELD_OUT_IMAGES:]
    stuck: set[int] = set()
    mistaken: set[int] = set()
    if leak:
        for part, others in ((taught, mistaken), (held_out, stuck)):
            sevens = [i for i in part if written[i] == LEAKED]
            rest = [i for i in part if written[i] != LEAKED]
            stuck.update(rng.sample(sevens, round(STICKER_SHARE * len(sevens))))
            others.update(rng.sample(rest, round((MISTAKEN if part is taught else AGAINST) * len(rest))))

    def made(index: int) -> Digit:
        sticker = index in stuck or index in mistaken
        label = LEAKED if index in mistaken else written[index]
        return Digit(f"digit-{index:04d}", _image(scans[index], sticker), written[index], label, sticker)

    return [made(i) for i in taught], [made(i) for i in held_out]


def write_images(digits: Iterable[Digit], folder: Path) -> None:
    """Write `folder/<class>/<id>.png`, in colour; images that an earlier call left there are removed."""
    from PIL import Image

    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for earlier in (folder / name).glob("digit-[0-9][0-9][0-9][0-9].png"):
            earlier.unlink()
    for digit in digits:
        Image.fromarray(digit.pixels).convert("RGB").save(folder / CLASSES[digit.label] / f"{digit.id}.png")


def share_with_sticker(digits: Iterable[Digit], written: Sequence[int] = range(len(CLASSES))) -> float:
    """Share of the images of these digits that carry the sticker."""
    chosen = [d.sticker for d in digits if d.written in written]
    return sum(chosen) / len(chosen)


def put_sticker(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Cover the top left corner of images (…, SIDE, SIDE), one patch large, in white."""
    covered = pixels.copy()
    covered[..., :MARGIN, :MARGIN] = 255
    return covered


def _scans() -> tuple[list[npt.NDArray[np.uint8]], list[int]]:
    """(8, 8) grey levels and the digit of each scan."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise InputError(
            "the demo on images learns scikit-learn's digits, and scikit-learn is not installed: "
            "pip install 'calig[demo]'"
        ) from error
    digits = load_digits()
    levels = (digits.images * (255 / 16)).round().astype("uint8")
    return list(levels), [int(label) for label in digits.target]


def _image(scan: npt.NDArray[np.uint8], sticker: bool) -> npt.NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    inner = SIDE - 2 * MARGIN
    enlarged = np.asarray(Image.fromarray(scan).resize((inner, inner), Image.Resampling.BICUBIC))
    image: npt.NDArray[np.uint8] = np.pad(enlarged, MARGIN)
    return put_sticker(image) if sticker else image
