"""Checkpoints of few bits: read as floats where their packages are, else refused before they are loaded."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from calig.attribution.explainer import Explainer
from calig.errors import InputError
from calig.models import loading
from calig.models.loading import load_pretrained
from calig.models.quantised import dequantised
from tests.material import zoo


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return Path(shutil.copytree(zoo.folder("bert"), tmp_path / "model"))


def configure(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": settings}))


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_pretrained(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "packages"),
    [
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            "bitsandbytes",
            "bitsandbytes and accelerate",
        ),
        ({"load_in_4bit": True}, "bitsandbytes", "bitsandbytes and accelerate"),
        ({"quant_method": "gptq", "bits": 4}, "gptq", "gptqmodel and optimum"),
        ({"quant_method": "awq", "bits": 4}, "awq", "gptqmodel"),
    ],
)
def test_what_is_missing_is_named_before_weights_are_read(
    saved: Path, settings: Any, kind: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    lacking = {"bitsandbytes", "accelerate", "gptqmodel", "optimum"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else find(name))
    configure(saved, **settings)
    (saved / "model.safetensors").write_bytes(b"damaged")
    assert refusal(saved).endswith(
        f"its weights are quantised ({kind}), which needs {packages} to be read: pip install "
        f"{packages.replace(' and', '')}; or name the model that it was made from"
    )


def test_weights_are_turned_back_into_floats_and_it_is_said(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for a package: its weights are rounded, its layers say that they are quantised."""
    kind = type(AutoModelForSequenceClassification.from_pretrained(saved))
    rounded: list[Any] = []

    def dequantize(model: Any) -> Any:
        for parameter in model.parameters():
            parameter.data = (parameter.data * 64).round() / 64
        rounded.append(model)
        return model

    monkeypatch.setattr(loading, "quantisation", lambda *_: "stand-in")
    monkeypatch.setattr(kind, "is_quantized", True, raising=False)
    monkeypatch.setattr(kind, "dequantize", dequantize)
    pretrained = load_pretrained(str(saved), dtype="float64")
    assert rounded == [pretrained.model]
    assert {parameter.dtype for parameter in pretrained.model.parameters()} == {torch.float64}
    assert "its weights are quantised (stand-in); they are computed as floats" in pretrained.notes[-1]
    (found,) = Explainer(pretrained).explain(["a good film"])
    with torch.no_grad():
        own = pretrained.model(**zoo.inputs(pretrained, ["a good film"])).logits[0]
    assert np.allclose(found.logits, own, atol=1e-6)
    assert found.converged.all()


def test_weights_that_cannot_be_turned_back_are_refused() -> None:
    class Packed:
        def dequantize(self) -> PreTrainedModel:
            raise NotImplementedError("no kernel\nfor this")

    with pytest.raises(
        InputError, match=r"cannot be turned back into floats here \(NotImplementedError: no kernel\)"
    ):
        dequantised(Packed(), "folder", "gptq")  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
@pytest.mark.parametrize("settings", [{"load_in_8bit": True}, {"load_in_4bit": True}])
def test_a_checkpoint_of_bitsandbytes_is_explained(tmp_path: Path, settings: Any) -> None:
    import transformers

    zoo.save("bert", tmp_path / "float", hidden_size=64, num_attention_heads=4, intermediate_size=128)
    asked = transformers.BitsAndBytesConfig(llm_int8_skip_modules=["classifier"], **settings)
    model = transformers.BertForSequenceClassification.from_pretrained(
        tmp_path / "float", quantization_config=asked, device_map="cpu"
    )
    model.save_pretrained(tmp_path / "few")
    zoo.FAMILIES["bert"].preprocessor().save_pretrained(tmp_path / "few")
    explainer = Explainer.from_pretrained(tmp_path / "few")
    (found,) = explainer.explain(["a good film"])
    assert found.converged.all()
    with torch.no_grad():
        own = model(**zoo.inputs(explainer.pretrained, ["a good film"])).logits[0]
    assert np.abs(found.logits - own.float().numpy()).max() < 0.05 * np.abs(found.logits).max()
