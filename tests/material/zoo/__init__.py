"""Small random classifiers of several families, of texts and of images, saved as the hub would.

What only texts or only images have lies in `texts` and `images`; a new family is one line of their `FAMILIES`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from calig.attribution import explainer as explainers
from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
from calig.models.classifier import Classifier
from calig.models.loading import Pretrained, fingerprint, load_pretrained
from calig.records import Document, Head, document_key
from tests.material.zoo import images, texts
from tests.material.zoo.images import PATCH as PATCH
from tests.material.zoo.images import SIDE as SIDE
from tests.material.zoo.images import pictures as pictures
from tests.material.zoo.images import pixels as pixels
from tests.material.zoo.images import processor as processor
from tests.material.zoo.texts import BLOCKS as BLOCKS
from tests.material.zoo.texts import CLASSES as CLASSES
from tests.material.zoo.texts import HEADS as HEADS
from tests.material.zoo.texts import HIDDEN as HIDDEN
from tests.material.zoo.texts import POSITIONS as POSITIONS
from tests.material.zoo.texts import TEXTS as TEXTS
from tests.material.zoo.texts import WORDS as WORDS
from tests.material.zoo.texts import answer as answer
from tests.material.zoo.texts import positions as positions

Family = texts.Family | images.Family
TEXT_FAMILIES, IMAGE_FAMILIES = texts.FAMILIES, images.FAMILIES
FAMILIES: dict[str, Family] = {**TEXT_FAMILIES, **IMAGE_FAMILIES}
QUICK = ("bert", "gpt2", "vit")
"""An encoder, a decoder and a model of images, for the first tier; the second has all."""
MATRIX = "the whole matrix of families"
"""Why a family is in the second tier."""
FEW = ("bert", "roberta", "mpnet", "modernbert", "gpt2", "gemma3")
"""One of each kind of text family, for what is slow even in the second tier."""
_SAVED = tempfile.TemporaryDirectory(prefix="calig-zoo-")


@cache
def folder(name: str) -> Path:
    """The family's model, saved; treat as read-only."""
    path = Path(_SAVED.name) / name
    save(name, path)
    return path


def save(name: str, path: Path, seed: int = 0, **config: Any) -> None:
    """Write a random classifier of the family with its tokenizer or image processor, in the hub's layout.

    Its weights are the same whatever dtype a test computes in.
    """
    family = FAMILIES[name]
    default = torch.get_default_dtype()
    torch.set_default_dtype(family.drawn)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = family.build(config)
            for parameter in model.parameters():  # biases, norms and the pad row are not random at first
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    finally:
        torch.set_default_dtype(default)
    model.save_pretrained(path)
    family.preprocessor().save_pretrained(path)


def load(name: str, dtype: str = "float64") -> Pretrained:
    """Load the family's model afresh: the caller may change it."""
    return load_pretrained(str(folder(name)), dtype=dtype)


@cache
def _loaded(name: str, dtype: str) -> tuple[Pretrained, Classifier, object]:
    """The family's one model that all tests share, its classifier, verified once, and how the model was then."""
    pretrained = load(name, dtype)
    return pretrained, Classifier(pretrained.model), _as_it_is(pretrained)


_lent: set[tuple[str, str]] = set()
_asked: set[tuple[str, str]] = set()


def shared(name: str, dtype: str = "float64") -> Pretrained:
    """The family's model, loaded once for all tests; the caller leaves it as it is (`shared_models_stay`)."""
    _lent.add((name, dtype))
    _asked.add((name, dtype))
    return _loaded(name, dtype)[0]


def classifier(name: str, dtype: str = "float64") -> Classifier:
    """The family's classifier, verified once for all tests; the caller leaves it as it is."""
    shared(name, dtype)
    return _loaded(name, dtype)[1]


def explainer(
    name: str,
    dtype: str = "float64",
    *,
    pretrained: Pretrained | None = None,
    token_budget: int | None = None,
    **method: Any,
) -> Explainer:
    """Explain with the family's shared model, whose verification is not repeated, or with one of the caller's own."""
    if pretrained is not None:
        return Explainer(pretrained, Method(**method), token_budget=token_budget)
    known = classifier(name, dtype)

    def verified(model: Any, head: Head) -> Classifier:
        assert (model, head) == (known.model, known.head)
        return known

    with patch.object(explainers, "Classifier", verified):
        return Explainer(shared(name, dtype), Method(**method), token_budget=token_budget)


def items(name: str) -> list[Any]:
    """What the family's models can be asked to explain: texts, or three images as pixel values, free of rounding."""
    return list(TEXTS) if name in TEXT_FAMILIES else list(pixels(pictures(3)))


def inputs(pretrained: Pretrained, given: Sequence[Any]) -> dict[str, torch.Tensor]:
    """Padded ids and mask straight from the tokenizer, or images' pixel values, without calig."""
    if pretrained.tokenizer is None:
        return {"pixel_values": torch.stack(list(given))}
    return dict(pretrained.tokenizer(list(given), padding=True, return_tensors="pt"))


def documents(given: Iterable[Any]) -> list[Document]:
    """Texts or images as documents."""
    return [
        Document(document_key(item), item) if isinstance(item, str) else Document(f"picture {i}", image=item)
        for i, item in enumerate(given)
    ]


def condition(model: nn.Module) -> tuple[Any, ...]:
    """What must not change: modules by identity, hooks, attention kernel, parameters' flags."""
    modules = dict(model.named_modules())
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules.values())
    return (
        {name: id(module) for name, module in modules.items()},
        hooks,
        model.config._attn_implementation,
        model.training,
        [p.requires_grad for p in model.parameters()],
    )


def _as_it_is(pretrained: Pretrained) -> object:
    return condition(pretrained.model), fingerprint(pretrained)


def _changed(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Which shared models are not as they were; the tests that follow get new ones, so that they do not fail too."""
    loaded = {key: _loaded(*key) for key in keys}
    found = [key for key, (pretrained, _, before) in loaded.items() if _as_it_is(pretrained) != before]
    if found:
        _loaded.cache_clear()
    return found


@pytest.fixture(autouse=True)
def shared_models_stay() -> Iterator[None]:
    """A test that changes a shared model fails: the tests after it would see another model."""
    _lent.clear()
    yield
    assert _changed(_lent) == []


@pytest.fixture(scope="session", autouse=True)
def all_shared_models_stay() -> Iterator[None]:
    """The same of models that a test has from a cache."""
    yield
    assert _changed(_asked) == []


class InDouble(TorchFunctionMode):
    """Nothing of a float64 model is computed in float32, as some families do in norms, rotations and softmax."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        double = bool(args) and isinstance(args[0], torch.Tensor) and args[0].dtype is torch.float64
        if double and kwargs.get("dtype") is torch.float32:
            kwargs.pop("dtype")
        if double and func is torch.Tensor.float:
            return args[0]
        if double and func is torch.Tensor.to and (args[1:] == (torch.float32,) or not (args[1:] or kwargs)):
            return args[0]
        return func(*args, **kwargs)


@pytest.fixture
def in_double() -> Iterator[None]:
    with InDouble():
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on more; an audit that another test runs may have set another number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
