"""The configuration: what it accepts, and the one line it answers to what it does not."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calig.config import AuditConfig, CorpusConfig, Limit, load_config, parse_config
from calig.errors import InputError

MINIMAL = "model: {id: some/model}\ncorpus: {path: a.csv}\n"
AUDITS = Path(__file__).parents[3] / "infra" / "audits"


@pytest.fixture
def audit(tmp_path):
    def write(text: str = MINIMAL, name: str = "nightly.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_are_the_documented_ones(audit):
    config = load_config(audit())
    assert config.name == "nightly"
    assert config.method.model_dump() == {
        "target": "predicted",
        "output": "logit",
        "baseline": "pad",
        "tolerance": 1e-2,
        "max_nodes": 486,
        "rule": "auto",
        "steps": None,
        "max_length": None,
        "image_size": None,
        "context": "path",
        "fusion": "agreement",
        "weight": 0.5,
    }
    assert (config.corpus.text, config.corpus.label, config.corpus.split) == ("text", None, None)
    assert (config.warehouse, config.gates.max_failure_share, config.runtime.retries) == (
        "warehouse",
        Limit(limit=0.05),
        2,
    )


def test_name_is_the_stem_made_fit_for_run_ids(audit):
    assert load_config(audit(name="my audit (2).yaml")).name == "my-audit-2-"
    assert load_config(audit(MINIMAL + "name: v1.0_a-b")).name == "v1.0_a-b"


def test_datasets_default_to_the_train_split(audit):
    path = audit("model: {id: m}\ncorpus: {dataset: org/name}")
    assert load_config(path).corpus.split == "train"
    assert load_config(path, ["corpus.split=test"]).corpus.split == "test"


def test_empty_sections_are_defaults(audit):
    assert load_config(audit(MINIMAL + "method:\nruntime:\n")).method.weight == 0.5


def test_the_shipped_audit_is_valid(monkeypatch):
    monkeypatch.setenv("CALIG_SHARED", "/data")
    config = load_config(AUDITS / "sst2.yaml")
    assert config.model.id == "/data/models/minilm-sst2"
    assert config.corpus.path == "/data/corpora/sst2-dev.parquet"
    assert config.corpus.label == "label"
    assert config.runtime.shard_documents == 100


# ---- environment


def test_variables_expand_inside_values_and_become_numbers(audit, monkeypatch):
    monkeypatch.setenv("WHERE", "/data")
    monkeypatch.setenv("ROWS", "7")
    monkeypatch.delenv("NOWHERE", raising=False)
    path = audit(
        'model: {id: "${WHERE}/m/${NOWHERE:-none}"}\ncorpus: {path: "${WHERE}/a.csv", limit: "${ROWS}"}'
    )
    config = load_config(path)
    assert config.model.id == "/data/m/none"
    assert config.corpus.limit == 7


def test_a_variable_wins_over_its_default(audit, monkeypatch):
    monkeypatch.setenv("MODEL", "mine")
    assert load_config(audit('model: {id: "${MODEL:-m}"}\ncorpus: {path: a.csv}')).model.id == "mine"


def test_an_empty_variable_takes_the_default(audit, monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    assert load_config(audit('model: {id: "${EMPTY:-m}"}\ncorpus: {path: a.csv}')).model.id == "m"


def test_an_unset_variable_is_named_with_its_field(audit, monkeypatch):
    monkeypatch.delenv("CALIG_NOWHERE", raising=False)
    message = refused(audit("model: {id: '${CALIG_NOWHERE}/m'}\ncorpus: {path: a.csv}"))
    assert message == "model.id uses ${CALIG_NOWHERE}, which is not set: export CALIG_NOWHERE=…"


def test_an_override_spares_the_variable_it_replaces(audit, monkeypatch):
    monkeypatch.delenv("CALIG_NOWHERE", raising=False)
    path = audit("model: {id: '${CALIG_NOWHERE}/m'}\ncorpus: {path: a.csv}")
    assert load_config(path, ["model.id=other"]).model.id == "other"


@pytest.mark.parametrize("value", ["${", "${A", "${1A}", "${A:+b}"])
def test_a_broken_variable_is_refused(audit, value):
    assert refused(audit(f"model: {{id: '{value}'}}\ncorpus: {{path: a.csv}}")).startswith("model.id has '${")


# ---- overrides


def test_overrides_are_yaml_and_apply_in_order(audit):
    config = load_config(
        audit(MINIMAL + "method:\n"),
        ["method.tolerance=1e-3", "method.target=2", "corpus.limit=5", "corpus.limit=", "name='7'"],
    )
    assert config.method.tolerance == 1e-3
    assert config.method.target == 2
    assert config.corpus.limit is None
    assert config.name == "7"


def test_the_warehouse_argument_wins(audit, tmp_path):
    path = audit(MINIMAL + "warehouse: here")
    assert load_config(path).warehouse == "here"
    assert load_config(path, ["warehouse=there"], warehouse=tmp_path).warehouse == str(tmp_path)


@pytest.mark.parametrize("override", ["corpus.limit", "=3", "corpus.=3", ".limit=3", "corpus..limit=3"])
def test_an_override_that_is_no_assignment(audit, override):
    assert "write it as section.field=value" in refused(audit(), override)


def test_an_override_below_a_value(audit):
    assert "model.id is a value, not a section" in refused(audit(), "model.id.x=1")


def test_an_override_that_is_not_yaml(audit):
    message = refused(audit(), "corpus.path=*.csv")
    assert "--set corpus.path=*.csv" in message
    assert "not valid YAML" in message


# ---- the file


def test_a_missing_file(tmp_path):
    assert "no such file" in refused(tmp_path / "none.yaml")


def test_a_folder(tmp_path):
    assert "cannot be read" in refused(tmp_path)


def test_latin1(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"name: caf\xe9")
    assert "not UTF-8 at byte 9" in refused(path)


@pytest.mark.parametrize(
    "text",
    ["a: [1", "a: b: c", "\t- a", "a: 1\n---\nb: 2", "a: 2024-13-45", "a: !!python/name:os.system", "\x07"],
)
def test_not_yaml(audit, text):
    assert "not valid YAML" in refused(audit(text))


@pytest.mark.parametrize("text", ["", "- 1", "text", "3"])
def test_not_a_mapping(audit, text):
    assert "not a mapping" in refused(audit(text))


@pytest.mark.parametrize(
    ("text", "line"), [(MINIMAL + "model: {id: other}", 3), ("model: {id: a, id: b}", 1)]
)
def test_a_key_given_twice(audit, text, line):
    message = refused(audit(text))
    assert f"line {line}: the key" in message
    assert "twice" in message


def test_merge_keys_still_work(audit):
    text = "model: &m {id: a}\ncorpus: {path: a.csv}\n"
    assert load_config(
        audit(text + "gates:\n  <<: {max_failure_share: 0.5}")
    ).gates.max_failure_share == Limit(limit=0.5)


def test_an_alias_to_itself(audit):
    assert "refers to itself" in refused(audit("a: &a [*a]"))


# ---- the fields


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("corpus.txt=a", "corpus.txt is not a known field: did you mean corpus.text?"),
        ("modle.id=a", "modle is not a known field: did you mean model?"),
        ("tolerance=0.1", "tolerance is not a known field: did you mean method.tolerance?"),
        ("zzz=1", "zzz is not a known field: known ones are name, model, corpus,"),
        ("corpus.zzz=1", "corpus.zzz is not a known field: known ones are corpus.path, corpus.dataset,"),
        ("method.tolerance=0", "method.tolerance is 0, but should be greater than 0"),
        ("method.tolerance=1", "method.tolerance is 1, but should be less than 1"),
        ("method.tolerance=.nan", "method.tolerance is nan, but should be"),
        ("method.tolerance=small", "method.tolerance is 'small', but should be a valid number"),
        ("method.weight=1.1", "method.weight is 1.1, but should be less than or equal to 1"),
        ("method.weight=true", "method.weight is True, but should be a number"),
        ("method.max_nodes=5", "method.max_nodes is 5, but should be greater than or equal to 6"),
        ("method.max_nodes=6.5", "method.max_nodes is 6.5, but should be a valid integer"),
        ("method.fusion=rollout", "method.fusion is 'rollout', but should be 'agreement' or 'column'"),
        ("method.output=prob", "method.output is 'prob', but should be 'logit' or 'margin'"),
        ("method.baseline=blank", "method.baseline is 'blank', which it cannot be: What replaces"),
        ("method.baseline='token:'", "method.baseline is 'token:', which it cannot be"),
        ("method.target=-1", "method.target is -1, but should be a class index of 0 or more"),
        ("method.target=true", "method.target is True, but should be predicted, runner-up, label,"),
        ("method.target=1.5", "method.target is 1.5, but should be predicted, runner-up, label,"),
        ("runtime.retries=-1", "runtime.retries is -1, but should be greater than or equal to 0"),
        ("runtime.workers=0", "runtime.workers is 0, but"),
        (
            "runtime.engine=spark",
            "runtime.engine is 'spark', but should be 'auto', 'threads', 'processes', 'ray' or 'pool'",
        ),
        (
            "runtime.ray_address=head:6379",
            "runtime.ray_address only goes with runtime.engine ray, not auto: set",
        ),
        (
            "runtime={engine: ray, device: 'cuda:1'}",
            "runtime.device: cuda:1 names a GPU of one machine, but with",
        ),
        ("runtime.dtype=int8", "runtime.dtype is 'int8', but should be 'float32', 'float64' or 'bfloat16'"),
        ("corpus.limit=0", "corpus.limit is 0, but should be greater than or equal to 1"),
        ("corpus.sample=0", "corpus.sample.documents is 0, but should be greater than or equal to 1"),
        ("corpus.sample={by: label}", "corpus.sample.documents is missing"),
        (
            "corpus={path: a, limit: 1, sample: 1}",
            "corpus.limit takes the first rows and corpus.sample draws from all",
        ),
        ("corpus.dataset=a/b", "corpus needs exactly one of corpus.path and corpus.dataset"),
        ("corpus.path=", "corpus needs exactly one of corpus.path and corpus.dataset"),
        ("corpus.split=test", "corpus.split only goes with corpus.dataset"),
        ("corpus.text=''", "corpus.text is empty"),
        ("model.revision=1.10", "model.revision is 1.1, but should be text: put it in quotes"),
        ("model=some/model", "model is 'some/model', but should be a section"),
        ("name=a b", "name is 'a b', which it cannot be: Name used in run ids"),
        ("gates.max_failure_share=5", "gates.max_failure_share is 5, but should be less than or equal to 1"),
        ("gates.min_accuracy=-1", "gates.min_accuracy is -1, but should be greater than or equal to 0"),
        ("gates.max_layer_psi=-1", "gates.max_layer_psi is -1, but should be greater than or equal to 0"),
        ("gates.min_accuracy=true", "gates.min_accuracy is True, but should be a number"),
        ("gates.min_accuracy.severity=warn", "gates.min_accuracy.limit is missing"),
        (
            "gates.max_watched_share.a=2",
            "gates.max_watched_share.a is 2, but should be less than or equal to 1",
        ),
        ("gates.max_flip_share={limit: 1, severity: no}", "gates.max_flip_share.severity is False, but"),
        (
            "gates.drift.what=[words, ears]",
            "gates.drift.what.1 is 'ears', but should be 'words', 'layers' or",
        ),
        ("gates.sql=[{name: a b, sql: x}]", "gates.sql.0.name is 'a b', which it cannot be: letters"),
        ("gates.sql=[{name: a, sql: x}, {name: a, sql: y}]", "gates.sql: two gates are named a"),
        ("gates.sql=[{name: min_accuracy, sql: x}]", "gates.sql: min_accuracy is the name of another gate"),
        ("watch.brands=[4711]", "watch.brands.0 is 4711, but should be text: put it in quotes"),
        ("watch.brands=[acme, '*']", "watch.brands.1 is '*', but should be a word"),
        ("watch.brands=[' ']", "watch.brands.0 is ' ', but should be a word"),
        ("watch.brands=[]", "watch.brands is [], but"),
        ("watch={a b: [c]}", "watch.a b is 'a b', which it cannot be: letters, digits"),
    ],
)
def test_a_wrong_field_gets_one_line(audit, override, answer):
    assert refused(audit(), override).startswith(answer)


@pytest.mark.parametrize(
    ("written", "limit"),
    [
        ("0.9", Limit(limit=0.9)),
        ("{limit: 0.9}", Limit(limit=0.9)),
        ("{limit: 0.9, severity: warn}", Limit(limit=0.9, severity="warn")),
        ("null", None),
    ],
)
def test_a_gate_is_a_number_or_a_section(audit, written, limit):
    path = audit(
        MINIMAL + f"watch: {{b: acme}}\ngates:\n  min_accuracy: {written}\n  max_watched_share: {{b: 0.9}}"
    )
    other = audit(name="other.yaml")
    for config in (load_config(path), load_config(other, [f"gates.min_accuracy={written}", "watch.b=acme"])):
        assert config.gates.min_accuracy == limit
        assert config.watch == {"b": ("acme",)}
        assert AuditConfig.model_validate_json(config.model_dump_json()) == config
    assert load_config(path).gates.max_watched_share == {"b": Limit(limit=0.9)}


def test_drift_is_switched_or_a_section(audit):
    assert load_config(audit(), ["gates.drift=false"]).gates.drift is None
    assert load_config(audit(), ["gates.drift=true"]).gates.drift.what == ("words", "layers", "outcomes")
    assert load_config(audit(), ["gates.drift.what=[words]"]).gates.drift.what == ("words",)


def test_a_missing_field(audit):
    assert refused(audit("corpus: {path: a.csv}")) == "model is missing: add it to the configuration"


def test_more_problems_are_counted(audit):
    message = refused(audit(), "runtime.workers=0", "runtime.threads=0", "corpus.txt=a")
    assert message.startswith("corpus.txt is not a known field")
    assert message.endswith("(and 2 more)")


def test_it_is_frozen(audit):
    config = load_config(audit())
    with pytest.raises(ValueError, match="frozen"):
        config.method.weight = 0.1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("columns: a", "corpus.columns is 'a', but should be a list of names, or without: a list of names"),
        ("columns: {x: [a]}", "but should be a list of names, or without: a list of names"),
        ("columns: {without: a}", "but should be a list of names, or without: a list of names"),
        (
            "columns: [1]",
            "corpus.columns is [1], but should have names of columns: put those that are numbers in",
        ),
        ("types: {x: float}", "corpus.types.x is 'float', but should be 'text', 'integer', 'number'"),
        (
            "labels: name",
            "corpus.labels is 'name', but should be names, indices, or a mapping from each value to a",
        ),
        ("labels: {}", "but should be names, indices, or a mapping"),
        ("labels: {a: 1.5}", "but should map each value to a class's name, its index, or null"),
        ("labels: {a: true}", "but should map each value to a class's name, its index, or null"),
        ("labels: {null: a}", "but has null as a value"),
    ],
)
def test_readings_of_a_corpus_that_make_no_sense(audit, given, says):
    message = refused(audit(f"model: {{id: a}}\ncorpus: {{path: a.csv, {given}}}"))
    assert says in message
    assert "\n" not in message


def test_values_of_labels_are_text_and_their_classes_as_written(audit):
    text = "model: {id: a}\ncorpus: {path: a.csv, labels: {2: a, true: 0, x: null}}"
    assert load_config(audit(text)).corpus.labels == {"2": "a", "True": 0, "x": None}
    with pytest.raises(ValueError, match="has a value twice, with quotes and without"):
        CorpusConfig(path="a.csv", labels={1: "a", "1": "b"})


# ---- JSON, forms


def schema_objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [schema, *schema["$defs"].values()]


def test_every_field_has_a_title_and_a_description():
    schema = AuditConfig.model_json_schema()
    for section in schema_objects(schema):
        assert section["additionalProperties"] is False
        for name, field in section["properties"].items():
            assert field["title"], name
            target = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("description") or target["description"], name


def test_no_field_invites_a_secret():
    for section in schema_objects(AuditConfig.model_json_schema()):
        assert not {"password", "secret", "api_key", "hf_token"} & set(section["properties"])


words = st.text(string.ascii_letters + string.digits + "/._- é中", min_size=1).filter(str.strip)
corpora = st.one_of(
    st.builds(lambda path, limit: {"path": path, "limit": limit}, words, st.none() | st.integers(1)),
    st.builds(lambda name, split: {"dataset": name, "split": split}, words, st.none() | words),
)
methods = st.fixed_dictionaries(
    {
        "target": st.integers(0, 99) | st.sampled_from(["predicted", "runner-up", "label", "2"]) | words,
        "output": st.sampled_from(["logit", "margin"]),
        "baseline": st.sampled_from(["pad", "mask", "zero"]) | words.map("token:".__add__),
        "tolerance": st.floats(0, 1, exclude_min=True, exclude_max=True),
        "max_nodes": st.integers(6, 10**6),
        "weight": st.floats(0, 1),
    }
)


@given(corpora, methods, st.none() | st.text(string.ascii_letters + "-_.", min_size=1))
def test_a_configuration_survives_json(corpus, method, name):
    config = parse_config({"model": {"id": "m"}, "corpus": corpus, "method": method, "name": name})
    dumped = json.loads(json.dumps(config.model_dump(mode="json")))
    again = parse_config(dumped)
    assert again == config
    assert type(again.method.target) is type(method["target"])
    assert AuditConfig.model_validate_json(config.model_dump_json()) == config


def test_sections_can_be_made_in_python():
    assert CorpusConfig(dataset="org/name").split == "train"
    assert CorpusConfig(path="a.csv").split is None
