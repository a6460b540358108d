"""One field of a config.json changed, of a thousand: the model is explained as it answers, or refused in one line.

    python -m tests.config_fuzz --changes 1000 --seed 1

Changed is a field that the forward pass reads: one that is asked for while the model is built and run. The change is a
plausible one (a neighbour, the double, another activation), or an implausible one (null, a text, a negative number).
What comes of it is compared with transformers alone, loading the same folder:

* explained: the logits are transformers' own, and Σ LIG = Δy at every depth that is said to be converged;
* refused: one line of `InputError`. A miss, if transformers loads every weight and gives finite logits;
* anything else is a failure: another exception, other logits, sums that do not hold, or a model that is explained
  although transformers cannot run it.

The figures are in tests/benchmarks/results/config_fuzz.md, written by a run of 1,000 or more.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers
from transformers import AutoConfig, PretrainedConfig

from calig import Explainer
from calig.errors import DocumentError, InputError
from calig.models.mae import silently
from tests.material import zoo

RESULTS = Path(__file__).parent / "benchmarks" / "results" / "config_fuzz.md"
FAMILIES = tuple(zoo.FAMILIES)
TEXT = "a dull film"
FAILURES = ("other exception", "other logits", "sums do not hold", "transformers cannot run it")
_NOT_READ = {"architectures", "transformers_version", "_name_or_path", "model_type", "return_dict"}
"""Fields that say nothing of the answers; calig takes them whatever `return_dict` says."""
_CHOICES: dict[str, Sequence[str]] = {
    "act": ("gelu", "relu", "silu", "tanh", "gelu_new", "quick_gelu", "gelu_pytorch_tanh", "linear"),
    "dtype": ("float16", "bfloat16", "float64", "float32"),
    "problem_type": ("regression", "single_label_classification", "multi_label_classification"),
    "classifier_pooling": ("cls", "mean"),
}
_SIZES = ("hidden_size", "dim", "n_embd")


@dataclass(frozen=True)
class Change:
    """A field of a family's config.json, by its path, and the value put there."""

    family: str
    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        before, after = (json.dumps(value)[:40] for value in (self.before, self.after))
        return f"{self.family}: {self.field}: {before} → {after}"


@dataclass(frozen=True)
class Outcome:
    """What came of a change: `kind` in a word or two, and what was said."""

    change: Change
    kind: str
    said: str = ""
    miss: bool = False


def change_of(seed: int, number: int) -> Change:
    """The change of a number: families take turns, the field and the value are drawn."""
    drawn = random.Random(f"{seed}/{number}")
    family = FAMILIES[number % len(FAMILIES)]
    fields = read_fields(family)
    field = drawn.choice(sorted(fields))
    before = fields[field]
    others = [value for value in values(field, before) if value != before or type(value) is not type(before)]
    return Change(family, field, before, drawn.choice(others))


def values(field: str, before: Any) -> list[Any]:
    """What a field may be changed to."""
    name = field.rpartition(".")[2]
    odd: list[Any] = [None, "nonsense", -1]
    for part, choices in _CHOICES.items():
        if part in name:
            return [*choices, *odd]
    match before:
        case bool():
            return [not before, not before, None, "nonsense"]
        case int():
            most = [] if name in _SIZES or "layer" in name else [1000]
            return [0, 1, before + 1, before - 1, 2 * before, before // 2, before + 0.5, *most, *odd]
        case float():
            return [0.0, 1.0, -before, 10 * before, before / 10, 1e30, *odd]
        case str():
            return ["", *odd]
        case list():
            return [[], before[:-1], [*before, *before[-1:]], before[::-1], *odd]
        case dict():
            keys = list(before)
            fewer = {key: before[key] for key in keys[:-1]}
            changed = {**before, keys[-1]: values(name, before[keys[-1]])[0]} if keys else {"0": "one"}
            return [{}, fewer, changed, *odd]
    return [0, 1, 2, 0.5, True, "nonsense"]


@cache
def read_fields(family: str) -> dict[str, Any]:
    """The fields of a family's configuration that are asked for while its model is built and run."""
    config = AutoConfig.from_pretrained(zoo.folder(family))
    parts = {"": config}
    parts |= {f"{name}.": part for name, part in vars(config).items() if isinstance(part, PretrainedConfig)}
    with recorded() as asked:
        model = _class(config)(config).eval()
        with torch.no_grad():
            model(**_inputs(family))
    found = {}
    for prefix, part in parts.items():
        written = part.to_dict()
        for name in asked.get(type(part), ()):
            own = part.attribute_map.get(name, name)
            if (
                own in written
                and own not in _NOT_READ
                and not isinstance(getattr(part, own), PretrainedConfig)
            ):
                found[prefix + own] = json.loads(json.dumps(written[own], default=str))
    labels = {str(index): name for index, name in config.id2label.items()}
    return {**found, "id2label": labels, "dtype": "float32", "problem_type": config.problem_type}


@contextmanager
def recorded() -> Iterator[dict[type, set[str]]]:
    """Note what is asked of configurations, by their class."""
    asked: dict[type, set[str]] = {}
    usual = PretrainedConfig.__getattribute__

    def noting(self: Any, name: str) -> Any:
        if not name.startswith("_"):
            asked.setdefault(type(self), set()).add(name)
        return usual(self, name)

    with patch.object(PretrainedConfig, "__getattribute__", noting):
        yield asked


def _class(config: Any) -> Any:
    return getattr(transformers, config.architectures[0])


def _inputs(family: str, longest: int | None = None) -> dict[str, torch.Tensor]:
    if family in zoo.IMAGE_FAMILIES:
        return {"pixel_values": zoo.pixels(zoo.pictures(1)).float()}
    cut = longest is not None
    tokenizer = zoo.FAMILIES[family].preprocessor()
    return dict(tokenizer([TEXT], return_tensors="pt", truncation=cut, max_length=longest))


def _resized(model: Any, given: dict[str, torch.Tensor]) -> dict[str, bool]:
    """What lets a model of images take one of another size, where it can."""
    vision = getattr(model.config, "vision_config", model.config)
    size = getattr(vision, "image_size", None)
    able = any("interpolate_pos_encoding" in signature(m.forward).parameters for m in model.modules())
    other = "pixel_values" in given and size not in (None, given["pixel_values"].shape[-1])
    return {"interpolate_pos_encoding": True} if able and other else {}


def write(change: Change, folder: Path) -> Path:
    """A copy of the family's folder with the change in its config.json."""
    path = Path(shutil.copytree(zoo.folder(change.family), folder / change.family))
    config = json.loads((path / "config.json").read_text())
    *parts, name = change.field.split(".")
    place = config
    for part in parts:
        place = place.setdefault(part, {})
    place[name] = change.after
    (path / "config.json").write_text(json.dumps(config))
    return path


def plain(change: Change, path: Path, longest: int | None = None) -> tuple[torch.Tensor | None, str]:
    """Logits (C,) of transformers alone, or None; and why they are not those of the saved model, where that is so.

    With `longest`, of the text's first tokens alone.
    """
    try:
        kind = _class(AutoConfig.from_pretrained(path))
        with silently(), torch.no_grad():
            model, info = kind.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
            given = _inputs(change.family, longest)
            logits = model.eval()(**given, **_resized(model, given))[0][0]
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    odd = [f"{key} is missing" for key in sorted(info["missing_keys"])]
    odd += [f"{key} is left out" for key in sorted(info["unexpected_keys"])]
    return logits, "; ".join(odd[:1])


def outcome(change: Change, folder: Path) -> Outcome:
    """Try a change."""
    path = write(change, folder)
    expected, why = plain(change, path)
    item: Any = TEXT if change.family in zoo.TEXT_FAMILIES else _inputs(change.family)["pixel_values"][0]
    try:
        several = change.field == "problem_type" and change.after == "regression"
        explainer = Explainer.from_pretrained(path, max_nodes=96, target=0 if several else "predicted")
        found = explainer.explain([item])[0]
    except InputError as error:
        said = str(error)
        if "\n" in said:
            return Outcome(change, "other exception", f"two lines: {said}")
        runs = expected is not None and not why and bool(expected.isfinite().all())
        return Outcome(change, "refused", said.replace(str(path), "FOLDER"), miss=runs)
    except DocumentError as error:
        finite = expected is not None and bool(expected.isfinite().all())
        kind = "other logits" if finite and error.reason == "non-finite" else f"document: {error.reason}"
        return Outcome(change, kind, str(error))
    except Exception as error:
        return Outcome(change, "other exception", f"{type(error).__name__}: {error}")
    if found.truncated:  # and said to be: a model that takes fewer tokens
        expected, why = plain(change, path, len(found.tokens))
    if expected is None:
        return Outcome(change, "transformers cannot run it", why)
    own = found.logits
    answer = expected.double().numpy()
    if explainer.head == "binary":
        answer = np.concatenate([[0.0], answer])
    scale = max(float(np.abs(answer).max()), 1e-3)
    if own.shape != answer.shape or np.abs(own - answer).max() > 1e-4 * scale:
        return Outcome(change, "other logits", f"{own.tolist()} for {answer.tolist()}")
    difference = found.logit - found.baseline_logit
    for ig, converged in zip(found.layer_ig.astype(float), found.converged, strict=True):
        if converged and abs(ig.sum() - difference) > 2e-2 * max(
            abs(difference), np.abs(ig).sum(), 1e-4 * scale
        ):
            return Outcome(change, "sums do not hold", f"{ig.sum()} for {difference}")
    return Outcome(change, "explained" if found.converged.all() else "explained, flagged as not converged")


def reason(said: str) -> str:
    """A refusal without the names and numbers of one model: what is counted."""
    text = said.removeprefix("model.id: ").replace("FOLDER", "").lstrip(": ")
    text = re.split(r"[;(,]|: | and \d", text)[0] if "not fit" in text else re.split(r"; |, ", text)[0]
    text = re.sub(
        r"'[^']*'|\"[^\"]*\"|\b\d[\w.]*|(?<!config)\.\w+|\b[A-Z]\w*For\w+|(?<=Layer)\(.*", "…", text
    )
    return re.sub(r"(…[ .]*)+", "… ", text).strip()[:110]


def run(changes: int, seed: int) -> list[Outcome]:
    """Try so many changes."""
    found = []
    for number in range(changes):
        with tempfile.TemporaryDirectory(prefix="calig-fuzz-") as folder:
            found.append(outcome(change_of(seed, number), Path(folder)))
        last = found[-1]
        if last.miss or last.kind in FAILURES:
            print(f"{'miss' if last.miss else last.kind}: {last.change}: {last.said[:300]}", flush=True)
    return found


def report(found: Sequence[Outcome], seed: int, minutes: float) -> str:
    """The figures, as Markdown."""
    kinds = Counter(one.kind for one in found)
    refused = Counter(reason(one.said) for one in found if one.kind == "refused")
    misses = [one for one in found if one.miss]
    failed = [one for one in found if one.kind in FAILURES]
    fields = {(one.change.family, one.change.field) for one in found}
    lines = [
        "# One field of config.json changed",
        "",
        f"Written by `python -m tests.config_fuzz --changes {len(found)} --seed {seed}` in {minutes:.0f} minutes, with "
        f"torch {torch.__version__.partition('+')[0]} and transformers {transformers.__version__}: {len(FAMILIES)} "
        f"families, {len(fields)} of their fields. What each word means is said in `tests/config_fuzz.py`.",
        "",
        "| what came of it | changes |",
        "|---|---|",
        *(f"| {kind} | {count} |" for kind, count in sorted(kinds.items(), key=lambda pair: -pair[1])),
        *(f"| {kind} | 0 |" for kind in FAILURES if kind not in kinds),
        f"| of the refused, run by transformers (misses) | {len(misses)} |",
        "",
        "## Refused, by reason",
        "",
        "| reason | changes |",
        "|---|---|",
        *(f"| {said} | {count} |" for said, count in refused.most_common()),
    ]
    for title, some in (("Misses", misses), ("Failures", failed)):
        lines += ["", f"## {title}", ""]
        lines += [f"- {one.change}: {one.said[:200]}" for one in some] or ["None."]
    return "\n".join(line if "`" in line else line.replace("_", r"\_") for line in lines) + "\n"


def main() -> None:
    """Try changes, write the figures if they are many, and fail if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    start = time.monotonic()
    found = run(asked.changes, asked.seed)
    text = report(found, asked.seed, (time.monotonic() - start) / 60)
    if asked.changes >= 1000:
        RESULTS.write_text(text)
    failed = sum(one.kind in FAILURES for one in found)
    misses = sum(one.miss for one in found)
    print(f"{failed} failures and {misses} misses in {len(found)} changes")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
