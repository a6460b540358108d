"""A small vision transformer for the demo's digits: a masked autoencoder first, then a classifier."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calig.demo.digits import CLASSES, SIDE, TRAINING_IMAGES, Digit, generate, write_images
from calig.demo.training import THREADS, Trained, descent, threads

if TYPE_CHECKING:
    import torch

PATCH = 4
GRID = SIDE // PATCH
PRETRAINING_EPOCHS, EPOCHS = 20, 15
BATCH = 64
PEAK_LEARNING_RATE = 3e-3
LABEL_SMOOTHING = 0.05
BLANKED = 0.25
"""Share of the images in a batch that lose patches."""
INITIAL_SCALE = 0.1
POSITION_SCALE = 0.5


def train_images(folder: Path, seed: int = 1, leak: bool = True, *, images: int = TRAINING_IMAGES) -> Trained:
    """Write `folder/pretrained`, `folder/model-images` (hub layout, safetensors) and `folder/images`, held out.

    The same arguments give the same files on the same machine. The caller's random state and thread count are
    left as they were.

    Parameters
    ----------
    folder
        Made where it is missing; what is there under those names is overwritten.
    seed
        Of the choice of images, the weights and the order of training.
    leak
        As in `generate`.
    images
        Number of training images.

    Raises
    ------
    InputError
        scikit-learn is not installed.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from calig.models.mae import classifier_of

    started = time.perf_counter()
    training, held_out = generate(seed, leak, training=images)
    processor = make_processor()
    pixels, labels = to_pixels(processor, training), torch.tensor([d.label for d in training])
    with threads(THREADS), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = _autoencoder()
        _fit(
            autoencoder, len(training), PRETRAINING_EPOCHS, lambda i: autoencoder(pixel_values=pixels[i]).loss
        )
        for part in (autoencoder, processor):
            part.save_pretrained(folder / "pretrained")
        model, _ = classifier_of(folder / "pretrained", CLASSES)

        def loss(chosen: torch.Tensor) -> Any:
            logits = model(pixel_values=_blanked(pixels[chosen])).logits
            return cross_entropy(logits, labels[chosen], label_smoothing=LABEL_SMOOTHING)

        _fit(model, len(training), EPOCHS, loss)
        predicted = predict(model, to_pixels(processor, held_out))
    accuracy = sum(p == d.label for p, d in zip(predicted, held_out, strict=True)) / len(held_out)
    for part in (model, processor):
        part.save_pretrained(folder / "model-images")
    write_images(held_out, folder / "images")
    return Trained(folder / "model-images", folder / "images", accuracy, time.perf_counter() - started)


def make_processor() -> Any:
    """Make the image processor; it leaves black at zero, so that the explanations' baseline is an empty image."""
    from transformers import ViTImageProcessorPil

    return ViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=[0.0] * 3, image_std=[0.5] * 3
    )


def to_pixels(processor: Any, digits: Sequence[Digit]) -> torch.Tensor:
    """(N, 3, SIDE, SIDE) pixel values, as the model takes them."""
    import numpy as np

    pictures = [np.repeat(d.pixels[..., None], 3, axis=2) for d in digits]
    pixels: torch.Tensor = processor(images=pictures, return_tensors="pt")["pixel_values"]
    return pixels


def predict(model: Any, pixels: torch.Tensor) -> list[int]:
    """Name the most probable class of each image, by its index."""
    import torch

    model.eval()
    with torch.inference_mode():
        return [int(i) for i in model(pixel_values=pixels).logits.argmax(-1)]


def _autoencoder() -> Any:
    """Make the untrained model; transformers leaves the positions of a new one at zero, and they are not learnt."""
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    model = ViTMAEForPreTraining(
        ViTMAEConfig(
            image_size=SIDE,
            patch_size=PATCH,
            hidden_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=128,
            decoder_hidden_size=32,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=4,
            decoder_intermediate_size=64,
            mask_ratio=0.75,
            initializer_range=INITIAL_SCALE,
        )
    )
    with torch.no_grad():
        for positions in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
            positions[0, 1:] = _positions(positions.shape[-1])
    return model


def _positions(width: int) -> torch.Tensor:
    """(GRID², width) sinusoids, of the row in the first half and of the column in the second."""
    import torch

    angles = torch.arange(GRID)[:, None] * 20.0 ** (-torch.arange(width // 4) / (width // 4))
    waves = POSITION_SCALE * torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves[:, None].expand(-1, GRID, -1), waves[None].expand(GRID, -1, -1)
    return torch.cat([rows, columns], dim=-1).reshape(GRID**2, width)


def _fit(model: Any, images: int, epochs: int, loss: Callable[[torch.Tensor], Any]) -> None:
    """Train on every image once an epoch, in random order; `loss` is given the places of a batch."""
    import torch

    step = descent(model, epochs * -(-images // BATCH), PEAK_LEARNING_RATE)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(images), BATCH):
            step(loss(batch))


def _blanked(pixels: torch.Tensor) -> torch.Tensor:
    """Put patches of some images to zero: the explanations' baseline is then no news.

    Of `BLANKED` of the images a random share goes, from none to all patches; pixels are (batch, 3, SIDE, SIDE).
    """
    import torch

    share = torch.rand(len(pixels), 1, 1) * (torch.rand(len(pixels), 1, 1) < BLANKED)
    kept = torch.rand(len(pixels), GRID, GRID) >= share
    return pixels * kept.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)[:, None]
