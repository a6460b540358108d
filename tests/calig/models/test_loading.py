"""Loading refuses, in one line, what cannot be explained, and fingerprints what decides the answers."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from calig.attribution.explainer import Explainer
from calig.errors import InputError
from calig.models import loading
from calig.models.configuration import read_config
from calig.models.loading import fingerprint, load_pretrained, resolve_device
from tests.material import zoo
from tests.material.permissions import held_to_permissions
from tests.material.tiers import few

WEIGHTS = "model.safetensors"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A copy of a good model, to be damaged."""
    return Path(shutil.copytree(zoo.folder("bert"), tmp_path / "model"))


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(edit(tensors), folder / WEIGHTS, metadata={"format": "pt"})


def refusal(folder: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_pretrained(str(folder), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", few(zoo.TEXT_FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_a_model_is_ready_to_explain(name: str) -> None:
    pretrained = load_pretrained(str(zoo.folder(name)))
    assert pretrained.classes == zoo.CLASSES
    assert not pretrained.model.training
    assert not any(p.requires_grad for p in pretrained.model.parameters())
    assert {p.dtype for p in pretrained.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("missing", ["/no/such/model", "./no-such-model", "no/such/model"])
def test_a_missing_folder_is_refused(missing: str) -> None:
    assert refusal(missing) == (
        f"model.id: no model folder at {missing}; give a folder with config.json, or a hub id"
    )


def test_a_file_for_a_folder_is_refused(saved: Path) -> None:
    assert "no model folder at" in refusal(saved / WEIGHTS)


def test_a_folder_without_a_configuration_is_refused(saved: Path) -> None:
    (saved / "config.json").unlink()
    assert refusal(saved).endswith("has no config.json; save the model with save_pretrained()")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pth"])
def test_pickled_weights_are_never_read(saved: Path, name: str) -> None:
    (saved / WEIGHTS).unlink()
    torch.save({}, saved / name)
    assert f"has only pickle weights ({name}); calig reads safetensors only" in refusal(saved)


class _Touch:
    """A pickle of it makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("weights.bin", "names 'weights.bin'; calig reads safetensors only"),
        ("../elsewhere.safetensors", "names '../elsewhere.safetensors'"),
        (None, "is damaged"),
    ],
)
def test_an_index_does_not_bring_in_pickles_or_files_elsewhere(
    saved: Path, tmp_path: Path, name: str | None, says: str
) -> None:
    """Of weights in several files, which transformers opens by the names that the index gives."""
    names = list(load_file(saved / WEIGHTS))
    (saved / WEIGHTS).rename(saved.parent / "elsewhere.safetensors")
    shutil.copy(saved.parent / "elsewhere.safetensors", saved / "some.safetensors")
    torch.save({"x": _Touch(tmp_path / "touched")}, saved / "weights.bin")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)} if name else [1]
    (saved / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert says in refusal(saved)
    assert not (tmp_path / "touched").exists()


def test_pickles_beside_safetensors_and_code_in_the_folder_are_left_alone(
    saved: Path, tmp_path: Path
) -> None:
    torch.save({"x": _Touch(tmp_path / "touched")}, saved / "pytorch_model.bin")
    (saved / "evil.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    configure(saved, auto_map={"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"})
    assert load_pretrained(str(saved)).classes == zoo.CLASSES
    assert not (tmp_path / "touched").exists()


def test_links_in_a_model_s_folder_are_followed_and_say_nothing_of_other_files(
    saved: Path, tmp_path: Path
) -> None:
    """They are followed, as the hub's cache needs; one that leads to another kind of file says nothing of it."""
    (saved / WEIGHTS).rename(tmp_path / "blob")
    (saved / WEIGHTS).symlink_to(tmp_path / "blob")
    assert load_pretrained(str(saved)).classes == zoo.CLASSES
    (tmp_path / "secret").write_text("hidden: 1")
    for name, says in (
        ("tokenizer.json", "its tokenizer cannot be read"),
        (WEIGHTS, "its weights cannot be read"),
        ("config.json", "is not a valid JSON file"),
    ):
        (saved / name).unlink()
        (saved / name).symlink_to(tmp_path / "secret")
        message = refusal(saved)
        assert says in message
        assert "hidden" not in message
    (saved / "config.json").unlink()
    (saved / "config.json").symlink_to(saved / "config.json")
    assert "has no config.json" in refusal(saved)


def test_a_folder_without_weights_is_refused(saved: Path) -> None:
    (saved / WEIGHTS).unlink()
    assert "has no weights; calig reads safetensors only" in refusal(saved)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_weights_cut_short_are_refused(saved: Path, kept: float) -> None:
    whole = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(whole[: int(kept * len(whole))])
    assert "its weights cannot be read" in refusal(saved)


def test_weights_of_another_size_are_refused(saved: Path) -> None:
    configure(saved, hidden_size=48)
    assert "its weights do not fit its config.json" in refusal(saved)


def test_a_configuration_that_is_not_json_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text("{")
    assert "config.json" in refusal(saved)


def test_an_encoder_without_a_head_is_refused(saved: Path) -> None:
    configure(saved, architectures=["BertModel"])
    assert "is a BertModel without a classification head; fine-tune it" in refusal(saved)


def test_a_head_that_was_never_saved_is_refused(saved: Path) -> None:
    edit_weights(saved, lambda t: {k: v for k, v in t.items() if not k.startswith("classifier")})
    message = refusal(saved)
    assert "lacks the weights classifier.bias, classifier.weight" in message
    assert "without a trained classification head" in message


def test_a_block_that_was_never_saved_is_refused(saved: Path) -> None:
    edit_weights(saved, lambda t: {k: v for k, v in t.items() if "layer.2." not in k})
    assert "lacks the weights bert.encoder.layer.2" in refusal(saved)


def test_a_folder_without_a_tokenizer_is_refused(saved: Path) -> None:
    """Transformers makes up one of special tokens alone, for which every word is unknown."""
    for file in saved.glob("tokenizer*"):
        file.unlink()
    assert "has no tokenizer, or an empty one" in refusal(saved)


def test_a_tokenizer_that_transformers_makes_up_is_refused(saved: Path) -> None:
    """DeBERTa's has two pieces beside its special tokens."""
    (saved / "tokenizer.json").unlink()
    (saved / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    assert "has no tokenizer, or an empty one" in refusal(saved)


@pytest.mark.parametrize("content", ["{", "{}", '{"added_tokens": [], "model": {"type": "?"}}'])
def test_a_damaged_tokenizer_is_refused(saved: Path, content: str) -> None:
    (saved / "tokenizer.json").write_text(content)
    assert "its tokenizer cannot be read" in refusal(saved)


def test_a_tokenizer_without_offsets_that_reads_no_plain_text_is_refused(saved: Path) -> None:
    (saved / "tokenizer.json").unlink()
    (saved / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    (saved / "tokenizer_config.json").write_text('{"tokenizer_class": "TapasTokenizer"}')
    message = refusal(saved)
    assert (
        "its tokenizer (TapasTokenizer) gives no character offsets, and its tokens cannot be found" in message
    )


@pytest.mark.parametrize("name", ["spm.model", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model"])
def test_a_tokenizer_of_sentencepiece_alone_names_the_extra(
    saved: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "sentencepiece" else find(n))
    (saved / "tokenizer.json").unlink()
    (saved / name).write_bytes(b"damaged")
    (saved / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    message = refusal(saved)
    assert message.endswith(
        f"is saved as {name} alone, which needs sentencepiece to be read: pip install 'calig[sentencepiece]'"
    )


def test_a_tokenizer_of_another_model_is_refused(saved: Path) -> None:
    other = zoo.texts.wordpiece()
    other.add_tokens(["film's"])
    other.save_pretrained(saved)
    assert f"its tokenizer has {len(other)} tokens and the model embeds {len(other) - 1}" in refusal(saved)


@pytest.mark.parametrize(
    ("stem", "name"), [("DebertaV2", "spm.model"), ("XLMRoberta", "sentencepiece.bpe.model")]
)
def test_a_tokenizer_of_sentencepiece_alone_is_read_with_the_extra(
    tmp_path: Path, stem: str, name: str
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    ids = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(zoo.TEXTS * 9), model_writer=written, vocab_size=40, minloglevel=2, **ids
    )
    sizes = zoo.texts.sizes(vocab_size=50, pad_token_id=0, num_labels=3, max_position_embeddings=40)()
    config = getattr(transformers, f"{stem}Config")(**sizes)
    getattr(transformers, f"{stem}ForSequenceClassification")(config).save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(written.getvalue())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": f"{stem}Tokenizer"}))
    (found,) = Explainer.from_pretrained(tmp_path, steps=4).explain(["a good film"])
    assert "".join(found.tokens[1:-1]) == "▁a▁good▁film"


def test_a_token_that_was_added_to_the_tokenizer_alone_is_named(saved: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(saved)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[NEW]"]})
    tokenizer.save_pretrained(saved)
    message = refusal(saved)
    assert "[NEW] was added to it and not to the model" in message
    assert f"model.resize_token_embeddings({len(tokenizer)})" in message


def test_a_configuration_without_architectures_is_that_of_its_type(saved: Path) -> None:
    configure(saved, architectures=None)
    assert type(load_pretrained(str(saved)).model).__name__ == "BertForSequenceClassification"


@pytest.mark.parametrize(
    ("stem", "sizes"),
    [
        (
            "Bart",
            {"d_model": 24, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 3}
            | {"decoder_attention_heads": 3, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48},
        ),
        ("T5", {"d_model": 24, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 3}),
    ],
)
def test_encoder_decoders_are_refused_before_they_are_loaded(
    saved: Path, stem: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = getattr(transformers, f"{stem}ForSequenceClassification")
    config = getattr(transformers, f"{stem}Config")(vocab_size=60, num_labels=3, **sizes)
    kind(config).save_pretrained(saved)
    monkeypatch.setattr(kind, "from_pretrained", lambda *_, **__: pytest.fail("it was loaded"))
    assert "models are an encoder and a decoder and cannot be explained" in refusal(saved)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"hidden_act": "nonsense"},
            "its config.json sets hidden_act to 'nonsense', which transformers does not know",
        ),
        ({"num_attention_heads": 5}, "multiple"),
        ({"id2label": {}}, ""),
        (
            {"layer_norm_eps": "small"},
            "field 'layer_norm_eps': TypeError: Field 'layer_norm_eps' expected float",
        ),
        ({"hidden_size": None}, "hidden_size"),
        ({"vocab_size": -1}, ""),
        ({"vocab_size": 10**13}, "the weights that its config.json asks for do not fit into memory"),
        ({"num_hidden_layers": 0}, ""),
        ({"model_type": "nonsense"}, "nonsense"),
    ],
)
def test_whatever_is_wrong_in_a_configuration_is_one_line(
    saved: Path, changes: dict[str, Any], said: str
) -> None:
    configure(saved, **changes)
    assert said in refusal(saved)


def test_what_the_machine_lacks_stays_what_it_is(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):
        monkeypatch.setattr(loading, "find_head", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            load_pretrained(str(saved))


def test_an_answer_that_is_a_tuple_by_configuration_is_read(saved: Path) -> None:
    configure(saved, return_dict=False)
    assert Explainer.from_pretrained(saved, steps=4).explain(["a film"])[0].converged.shape == (4,)


def test_an_unknown_dtype_or_device_is_refused() -> None:
    assert refusal(zoo.folder("bert"), dtype="float16").startswith("runtime.dtype: 'float16' is not one of")
    assert refusal(zoo.folder("bert"), device="gpu").startswith("runtime.device: 'gpu' cannot be used here")
    assert "'meta' cannot be used here" in refusal(zoo.folder("bert"), device="meta")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_weights_are_cast_from_what_they_were_saved_in(saved: Path, dtype: str) -> None:
    edit_weights(saved, lambda t: {k: v.half() if v.is_floating_point() else v for k, v in t.items()})
    configure(saved, dtype="float16")
    model = load_pretrained(str(saved), dtype=dtype).model
    stored = load_file(saved / WEIGHTS)
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert torch.equal(model.classifier.weight, stored["classifier.weight"].to(getattr(torch, dtype)))


class TestFingerprint:
    def test_is_that_of_the_content_not_of_the_folder(self, saved: Path) -> None:
        here = fingerprint(load_pretrained(str(saved)))
        assert here == fingerprint(load_pretrained(str(saved.rename(saved.with_name("elsewhere")))))
        assert here == fingerprint(load_pretrained(str(zoo.folder("bert"))))

    def test_is_the_same_after_explaining(self) -> None:
        """A call leaves its truncation and padding behind in the tokenizer."""
        pretrained = zoo.load("bert")
        before = fingerprint(pretrained)
        Explainer(pretrained).explain(["a good film"])
        pretrained.tokenizer(["a", "a good film"], padding=True)
        assert fingerprint(pretrained) == before

    def test_changes_with_one_weight(self, saved: Path) -> None:
        before = fingerprint(load_pretrained(str(saved)))

        def nudge(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            weight = tensors["bert.encoder.layer.1.output.dense.weight"]
            weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
            return tensors

        edit_weights(saved, nudge)
        assert fingerprint(load_pretrained(str(saved))) != before

    def test_changes_with_the_tokenizer(self, saved: Path) -> None:
        before = fingerprint(load_pretrained(str(saved)))
        content = json.loads((saved / "tokenizer.json").read_text())
        content["normalizer"]["lowercase"] = False
        (saved / "tokenizer.json").write_text(json.dumps(content))
        assert fingerprint(load_pretrained(str(saved))) != before

    def test_changes_with_the_configuration_and_the_dtype(self, saved: Path) -> None:
        seen = [fingerprint(load_pretrained(str(saved), dtype=d)) for d in ("float32", "float64", "bfloat16")]
        configure(saved, layer_norm_eps=1e-5)
        seen.append(fingerprint(load_pretrained(str(saved))))
        assert len(set(seen)) == 4

    def test_takes_weights_that_are_single_numbers(self) -> None:
        pretrained = zoo.load("bert")
        pretrained.model.register_parameter("scale", torch.nn.Parameter(torch.tensor(1.0)))
        before = fingerprint(pretrained)
        pretrained.model.scale.data.fill_(2.0)
        assert fingerprint(pretrained) != before


@pytest.mark.parametrize("mode", [0o000, 0o300])
def test_a_folder_that_may_not_be_read_is_not_one_without_weights(mode: int, tmp_path: Path) -> None:
    zoo.save("bert", tmp_path / "closed")
    (tmp_path / "closed").chmod(mode)
    try:
        with (
            held_to_permissions(),
            pytest.raises(InputError, match=r"closed\S* may not be read: permission denied"),
        ):
            read_config(str(tmp_path / "closed"))
    finally:
        (tmp_path / "closed").chmod(0o700)
