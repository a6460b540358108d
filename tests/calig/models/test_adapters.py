"""An adapter in the folder is explained with the model, or the model is refused, whatever happens to be installed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from calig.attribution.explainer import Explainer
from calig.errors import InputError
from calig.models import adapters
from calig.models.configuration import read_config
from calig.models.contents import model_contents
from calig.models.loading import fingerprint, load_pretrained
from tests.calig.models import faults
from tests.material import zoo
from tests.material.tiers import few

RANK, ALPHA = 4, 8
TARGETS = {
    "bert": "value",
    "roberta": "query",
    "distilbert": "q_lin",
    "albert": "value",
    "deberta-v2": "value_proj",
    "modernbert": "Wqkv",
    "gpt2": "c_attn",
    "llama": "q_proj",
    "gemma3": "v_proj",
    "vit": "v_proj",
    "siglip": "v_proj",
}
with_peft = pytest.mark.skipif(adapters.importlib.util.find_spec("peft") is None, reason="needs calig[peft]")


@pytest.fixture
def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def as_with_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is refused is refused before peft is needed."""
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: object())


def lora_of(name: str) -> dict[str, torch.Tensor]:
    """Random matrices for one linear map of each block, by the map's name and `lora_A` or `lora_B`."""
    generator = torch.Generator().manual_seed(3)
    found = {}
    for path, module in zoo.shared(name).model.named_modules():
        if path.endswith("." + TARGETS[name]):
            rows, columns = module.weight.shape if name != "gpt2" else module.weight.shape[::-1]
            found[f"{path}.lora_A"] = torch.randn(RANK, columns, generator=generator) * 0.3
            found[f"{path}.lora_B"] = torch.randn(rows, RANK, generator=generator) * 0.3
    assert found
    return found


def write_adapter(
    folder: Path, name: str, base: Path, head: torch.Tensor | None = None, **settings: Any
) -> None:
    """As peft saves it; with a head, the weight and a bias of zeros of a module `classifier`."""
    folder.mkdir(exist_ok=True)
    tensors = {f"base_model.model.{key}.weight": tensor for key, tensor in lora_of(name).items()}
    if head is not None:
        tensors["base_model.model.classifier.weight"] = head
        tensors["base_model.model.classifier.bias"] = torch.zeros(len(head))
    save_file(tensors, folder / adapters.WEIGHTS, metadata={"format": "pt"})
    usual = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": [TARGETS[name]],
        "base_model_name_or_path": str(base),
        "fan_in_fan_out": name == "gpt2",
        "modules_to_save": None if head is None else ["classifier", "score"],
        "bias": "none",
        "inference_mode": True,
        "auto_mapping": {"base_model_class": "system", "parent_library": "os"},
    }
    (folder / adapters.CONFIG).write_text(json.dumps({**usual, **settings}))


def merged_by_hand(name: str) -> Any:
    """The family's model in float64, W + (α / r)·B·A written out."""
    model = zoo.load(name).model
    lora = lora_of(name)
    for path in {key.rpartition(".")[0] for key in lora}:
        change = lora[f"{path}.lora_B"].double() @ lora[f"{path}.lora_A"].double() * (ALPHA / RANK)
        model.get_submodule(path).weight.data += change.T if name == "gpt2" else change
    return model


def answers(model: Any, pretrained: Any, name: str) -> np.ndarray:
    given = zoo.items(name)[:3]
    alone = [zoo.inputs(pretrained, [item]) for item in given]
    with torch.no_grad():
        return np.stack([model(**one).logits[0].numpy() for one in alone])


def refusal(folder: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        load_pretrained(str(folder), dtype="float64")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """BERT with an adapter beside it."""
    saved = faults.copied("bert", tmp_path)
    write_adapter(saved, "bert", saved)
    return saved


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """An adapter of BERT in a folder of its own."""
    write_adapter(tmp_path / "adapter", "bert", zoo.folder("bert"))
    return tmp_path / "adapter"


class TestWithoutPeft:
    @pytest.mark.usefixtures("without_peft")
    def test_a_model_with_an_adapter_is_refused_with_what_to_install(self, beside: Path) -> None:
        assert refusal(beside) == (
            f"model.id: {beside} is an adapter (LORA) to the model beside it, which needs peft to be applied: "
            "pip install 'calig[peft]'; or, to explain the model without it, remove adapter_config.json"
        )

    @pytest.mark.usefixtures("without_peft")
    def test_an_adapter_by_itself_is_refused_with_what_to_install(self, apart: Path) -> None:
        assert refusal(apart) == (
            f"model.id: {apart} is an adapter (LORA) to {zoo.folder('bert')}, which needs peft to be applied: "
            "pip install 'calig[peft]'"
        )
        with pytest.raises(InputError, match="needs peft"):  # before anything is started
            read_config(str(apart))


@pytest.mark.usefixtures("as_with_peft")
class TestRefused:
    def test_pickled_weights_are_never_read(self, apart: Path) -> None:
        (apart / adapters.WEIGHTS).rename(apart / "adapter_model.bin")
        message = refusal(apart)
        assert "its adapter has pickled weights (adapter_model.bin); calig reads safetensors only" in message
        (apart / "adapter_model.bin").unlink()
        assert "its adapter has no weights" in refusal(apart)

    def test_weights_without_settings_are_refused(self, beside: Path) -> None:
        (beside / adapters.CONFIG).unlink()
        assert "holds adapter_model.safetensors without adapter_config.json" in refusal(beside)

    @pytest.mark.parametrize("content", ["{", "[]", "{}"])
    def test_damaged_settings_are_refused(self, apart: Path, content: str) -> None:
        (apart / adapters.CONFIG).write_text(content)
        assert "its adapter_config.json is damaged" in refusal(apart)

    def test_the_model_below_must_be_named_and_there(self, apart: Path, tmp_path: Path) -> None:
        write_adapter(apart, "bert", tmp_path / "gone")
        message = refusal(apart)
        assert f"base_model_name_or_path, is no folder here: {tmp_path / 'gone'}" in message
        write_adapter(apart, "bert", tmp_path, base_model_name_or_path=None)
        assert "names no base_model_name_or_path" in refusal(apart)

    def test_an_adapter_of_an_adapter_is_refused(self, apart: Path, beside: Path) -> None:
        write_adapter(apart, "bert", beside)
        assert "has an adapter itself" in refusal(apart)

    def test_the_folder_below_is_known_without_loading(self, apart: Path, beside: Path) -> None:
        below = str(zoo.folder("bert").resolve())
        assert below in model_contents(str(apart), None)[1:]
        assert below not in model_contents(str(beside), None)[1:]
        assert model_contents(below, None)[0] == below
        assert len(model_contents(below, None)) == 2, "no model below"


@with_peft
@pytest.mark.parametrize("name", few(TARGETS, ["bert", "gpt2", "vit"], zoo.MATRIX))
def test_an_adapted_model_answers_as_one_merged_by_hand(name: str, tmp_path: Path) -> None:
    """Beside the model and apart from it alike; and its attributions sum to the change of the logit."""
    saved = faults.copied(name, tmp_path)
    write_adapter(saved, name, saved)
    write_adapter(tmp_path / "apart", name, zoo.folder(name), task_type=None)
    expected = answers(merged_by_hand(name), zoo.shared(name), name)
    assert np.abs(expected - answers(zoo.shared(name).model, zoo.shared(name), name)).max() > 0.01
    found = [load_pretrained(str(folder), dtype="float64") for folder in (saved, tmp_path / "apart")]
    for pretrained in found:
        np.testing.assert_allclose(
            answers(pretrained.model, pretrained, name), expected, rtol=1e-5, atol=1e-6
        )
        assert not any("lora" in key for key, _ in pretrained.model.named_modules())
    plain = fingerprint(zoo.shared(name))
    assert len({plain, *map(fingerprint, found)}) == 2, "the same model, and another than without the adapter"
    explainer = Explainer(found[0])
    for a in explainer.explain(zoo.items(name)[:2]):
        gap = np.abs(a.layer_ig.sum(axis=1) - (a.logit - a.baseline_logit)).max()
        assert gap < 0.02 * np.abs(a.layer_ig).sum(axis=1).max()


@with_peft
class TestWithPeft:
    def test_every_part_of_an_adapter_is_in_the_hash(self, apart: Path) -> None:
        def now() -> str:
            return fingerprint(load_pretrained(str(apart), dtype="float64"))

        seen = [now(), now()]
        assert seen[0] == seen[1]
        tensors = load_file(apart / adapters.WEIGHTS)
        key = min(tensors)
        tensors[key][0, 0] = torch.nextafter(tensors[key][0, 0], torch.tensor(9.0))
        save_file(tensors, apart / adapters.WEIGHTS, metadata={"format": "pt"})
        seen.append(now())
        write_adapter(apart, "bert", zoo.folder("bert"), lora_alpha=2 * ALPHA)
        seen.append(now())
        seen.append(fingerprint(load_pretrained(str(apart), dtype="float32")))
        assert len(set(seen)) == 4

    def test_the_head_that_was_trained_with_an_adapter_is_used(self, tmp_path: Path) -> None:
        """On a model of pre-training, which has none: the usual way to fine-tune; labels have no names there."""
        config = transformers.AutoConfig.from_pretrained(zoo.folder("bert"))
        below = transformers.BertForMaskedLM(config)
        below.bert = transformers.BertForSequenceClassification.from_pretrained(zoo.folder("bert")).bert
        below.bert.pooler = None
        below.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
        below.save_pretrained(tmp_path / "below")
        zoo.texts.wordpiece().save_pretrained(tmp_path / "below")
        head = torch.randn(4, zoo.HIDDEN, generator=torch.Generator().manual_seed(1))
        # a masked language model has no pooler, which the adapter then must bring as well
        pooler = {
            f"base_model.model.bert.pooler.dense.{part}": tensor
            for part, tensor in zoo.load("bert", "float32").model.bert.pooler.dense.state_dict().items()
        }
        write_adapter(tmp_path / "adapter", "bert", tmp_path / "below", head)
        assert "lacks the weights bert.pooler.dense.bias" in refusal(tmp_path / "adapter")
        write_adapter(
            tmp_path / "adapter", "bert", tmp_path / "below", head, modules_to_save=["classifier", "pooler"]
        )
        tensors = load_file(tmp_path / "adapter" / adapters.WEIGHTS)
        save_file({**tensors, **pooler}, tmp_path / "adapter" / adapters.WEIGHTS, metadata={"format": "pt"})
        pretrained = load_pretrained(str(tmp_path / "adapter"), dtype="float64")
        assert pretrained.classes == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
        model = merged_by_hand("bert")
        model.classifier = torch.nn.Linear(zoo.HIDDEN, 4)
        model.classifier.weight.data, model.classifier.bias.data = head.double(), torch.zeros(4).double()
        expected = answers(model, pretrained, "bert")
        np.testing.assert_allclose(
            answers(pretrained.model, pretrained, "bert"), expected, rtol=1e-5, atol=1e-6
        )
        assert fingerprint(pretrained) == fingerprint(
            load_pretrained(str(tmp_path / "adapter"), dtype="float64")
        )

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"peft_type": "NEWEST"}, "the installed peft knows no peft_type 'NEWEST'"),
            ({"newest_option": 3}, "sets newest_option, which the installed peft does not know"),
            ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa' changes the model below"),
            ({"megatron_config": {"a": 1}}, "adapters of Megatron's layers cannot be merged"),
            ({"target_modules": ["nothing"]}, "cannot be applied and merged (Target modules"),
            (
                {"target_modules": ["query", "value"]},
                "its adapter lacks base_model.model.bert.encoder.layer.0",
            ),
            ({"r": 8}, "cannot be applied and merged ("),
            (
                {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3, "lora_alpha": None, "r": None}
                | dict.fromkeys(("target_modules", "fan_in_fan_out", "bias")),
                "adapters of type PREFIX_TUNING put states of their own before a text's",
            ),
        ],
    )
    def test_what_cannot_be_applied_whole_is_refused(
        self, apart: Path, settings: dict[str, Any], said: str
    ) -> None:
        write_adapter(apart, "bert", zoo.folder("bert"), **settings)
        assert said in refusal(apart)

    def test_weights_that_its_settings_have_no_place_for_are_refused(self, apart: Path) -> None:
        tensors = load_file(apart / adapters.WEIGHTS)
        tensors["base_model.model.bert.encoder.layer.1.attention.self.query.lora_A.weight"] = torch.ones(
            4, 24
        )
        save_file(tensors, apart / adapters.WEIGHTS, metadata={"format": "pt"})
        assert "its adapter has more than its settings say: " in refusal(apart)

    def test_nothing_beside_the_safetensors_is_unpickled(self, apart: Path) -> None:
        (apart / "adapter_model.bin").write_bytes(
            b"cos\nsystem\n(S'touch " + bytes(apart / "run") + b"'\ntR."
        )
        pickle.loads((apart / "adapter_model.bin").read_bytes())
        assert (apart / "run").exists(), "it would run"
        (apart / "run").unlink()
        load_pretrained(str(apart))
        assert not (apart / "run").exists()
