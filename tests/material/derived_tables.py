"""The aggregates derived a second way, in plain Python over the attributions: no SQL, no arrays."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calig.bootstrap import mean_intervals
from calig.records import Attribution, Failure, document_key
from tests.material.warehouses import CLASSES, labels, make_items, make_texts

Row = dict[str, object]


def mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def sign(value: float) -> int:
    return (value > 0) - (value < 0)


def least(effects: Iterable[tuple[float, int]]) -> int | None:
    """The document of the least effect below 0, the first of several; None without one."""
    return min(((effect, doc_id) for effect, doc_id in effects if effect < 0), default=(0.0, None))[1]


def mean_ranks(values: Sequence[float]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def spearman(one: Sequence[float], two: Sequence[float]) -> float | None:
    if len(set(one)) < 2 or len(set(two)) < 2:
        return None
    return statistics.correlation(mean_ranks(one), mean_ranks(two))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The interval of a mean: of up to 50 values by resampling them in rising order, else by Cornish and Fisher."""
    n = len(values)
    if n <= 50:
        low, high = mean_intervals(np.array([sorted(values)]))[0].tolist()
        return low, high
    centre = statistics.fmean(values)
    deviation = statistics.pstdev(values)
    g = statistics.fmean(((value - centre) / deviation) ** 3 for value in values) / math.sqrt(n)
    ends = []
    for z in (-1.959964, 1.959964):
        bent = z + g * (z**2 - 1) / 6 + g**2 * ((z**3 - 3 * z) / 24 - (2 * z**3 - 5 * z) / 36)
        ends.append(min(max(values), max(min(values), centre + bent * deviation / math.sqrt(n))))
    return ends[0], ends[1]


@dataclass(frozen=True)
class Explained:
    """A document of the run with its explanation; `w` is the fusion's weight."""

    doc_id: int
    text: str
    label: int | None
    a: Attribution
    w: float = 0.5

    @property
    def target(self) -> str:
        return CLASSES[self.a.target]

    @cached_property
    def scores(self) -> list[float]:
        total = [0.0] * len(self.a.tokens)
        for block in range(len(self.a.context)):
            ig, ctx = self.a.layer_ig[block].tolist(), self.a.context[block].tolist()
            ig_norm, ctx_norm = sum(map(abs, ig)), float(self.a.context_norm[block])
            for t in range(len(total)):
                total[t] += (1 - self.w) * (ratio(ig[t], ig_norm) or 0) + self.w * (
                    ratio(ctx[t], ctx_norm) or 0
                )
        return total

    @cached_property
    def effects(self) -> list[float]:
        return [statistics.fmean(token) for token in zip(*self.a.layer_ig[:-1].tolist(), strict=True)]

    @property
    def words(self) -> dict[int, tuple[str, float, float]]:
        """Word id → (word, effect, score)."""
        found: dict[int, tuple[str, float, float]] = {}
        for t, word_id in enumerate(self.a.word_ids.tolist()):
            if word_id >= 0:
                _, effect, score = found.get(word_id, ("", 0.0, 0.0))
                word = self.text.split(" ")[word_id].lower()
                found[word_id] = (word, effect + self.effects[t], score + self.scores[t])
        return found

    def depth(self, depth: int) -> Row:
        ig = self.a.layer_ig[depth].tolist()
        content = [t for t, special in enumerate(self.a.is_special) if not special]
        gross, net = math.fsum(map(abs, ig)), math.fsum(ig)
        shares = [abs(value) / gross for value in ig]
        ctx = self.a.context[depth - 1].tolist() if depth else []
        return {
            "doc_id": self.doc_id,
            "depth": depth,
            "gross": gross,
            "net": net,
            "cancellation": ratio(gross, abs(net)),
            "effective_tokens": math.exp(-sum(share * math.log(share) for share in shares if share)),
            "special_share": 1 - sum(shares[t] for t in content),
            "rank_agreement": spearman([ig[t] for t in content], [self.scores[t] for t in content]),
            "sign_agreement": statistics.fmean(sign(ig[t]) == sign(self.scores[t]) for t in content),
            "context_ratio": ratio(abs(math.fsum(ctx)), sum(map(abs, ctx))),
        }

    @cached_property
    def depths(self) -> list[Row]:
        return [self.depth(depth) for depth in range(len(self.a.layer_ig))]

    @property
    def settling_depth(self) -> int | None:
        agree = [(row["rank_agreement"] or -1) > 0.8 - 1e-9 for row in self.depths[:-1]]  # type: ignore[operator]
        return next((depth for depth in range(len(agree)) if all(agree[depth:])), None)


@dataclass(frozen=True)
class Expected:
    """All tables of the run that `make_warehouse(documents, depths, seed)` writes."""

    documents: int
    depths: int
    seed: int

    @cached_property
    def texts(self) -> list[str]:
        return make_texts(self.documents, self.seed)

    @cached_property
    def items(self) -> dict[str, Attribution | Failure]:
        return {item.key: item for item in make_items(self.texts, self.depths, self.seed)}

    @cached_property
    def explained(self) -> list[Explained]:
        found = []
        for doc_id, (text, label) in enumerate(zip(self.texts, labels(self.texts, self.seed), strict=True)):
            item = self.items[document_key(text)]
            if isinstance(item, Attribution):
                found.append(Explained(doc_id, text, label, item))
        return found

    @cached_property
    def counted(self) -> list[Explained]:
        """Those within the tolerance at every depth, of which statistics are made."""
        return [d for d in self.explained if d.a.converged.all()]

    def document_depths(self) -> list[Row]:
        return [row for document in self.explained for row in document.depths]

    def settling(self) -> list[Row]:
        return [{"doc_id": d.doc_id, "settling_depth": d.settling_depth} for d in self.explained]

    def layer_stats(self) -> list[Row]:
        found = []
        for label in ("*", *CLASSES):
            of_class = [d for d in self.counted if label in ("*", d.target)]
            for depth in range(self.depths if of_class else 0):
                rows = [d.depths[depth] for d in of_class]
                means = {name: mean(row[name] for row in rows) for name in list(rows[0])[5:]}  # type: ignore[misc]
                gross, net = sum(row["gross"] for row in rows), sum(abs(row["net"]) for row in rows)  # type: ignore
                own = {"class": label, "depth": depth, "documents": len(rows), "cancellation": gross / net}
                found.append({**own, **means})
        return found

    def token_stats(self) -> list[Row]:
        groups: dict[tuple[str, str], list[tuple[int, float, float]]] = defaultdict(list)
        for d in self.counted:
            for token, effect, score in zip(d.a.tokens, d.effects, d.scores, strict=True):
                groups[d.target, token].append((d.doc_id, effect, score))
        return [
            {
                "class": label,
                "token": token,
                "documents": len({row[0] for row in rows}),
                "occurrences": len(rows),
                "effect": mean(row[1] for row in rows),
                "score": mean(row[2] for row in rows),
            }
            for (label, token), rows in groups.items()
        ]

    def word_effects(self) -> dict[tuple[str, str], list[tuple[int, float, float, int]]]:
        """(class, word) → per document: occurrences, summed effect, summed score, doc_id."""
        groups: dict[tuple[str, str], list[tuple[int, float, float, int]]] = defaultdict(list)
        for d in self.counted:
            sums: dict[str, tuple[int, float, float]] = {}
            for word, effect, score in d.words.values():
                count, effects, scores = sums.get(word, (0, 0.0, 0.0))
                sums[word] = (count + 1, effects + effect, scores + score)
            for word, values in sums.items():
                groups[d.target, word].append((*values, d.doc_id))
        return {key: rows for key, rows in groups.items() if len(rows) >= 5}

    def word_stats(self) -> list[Row]:
        """All columns but the bootstrap's."""
        found = []
        for (label, word), rows in self.word_effects().items():
            effect = statistics.fmean(row[1] for row in rows)
            found.append(
                {
                    "class": label,
                    "word": word,
                    "documents": len(rows),
                    "occurrences": sum(row[0] for row in rows),
                    "effect": effect,
                    "score": mean(row[2] for row in rows),
                    "same_sign_share": mean(sign(row[1]) == sign(effect) for row in rows),
                    "example_for": least((-row[1], row[3]) for row in rows),
                    "example_against": least((row[1], row[3]) for row in rows),
                }
            )
        return found

    def class_stats(self) -> list[Row]:
        found = []
        for number, label in enumerate(CLASSES):
            predicted = [d for d in self.explained if d.a.predicted == number]
            labelled = [d for d in self.explained if d.label == number]
            correct = sum(d.label == number for d in predicted)
            of_target = [d for d in self.explained if d.a.target == number]
            powers = [[math.exp(logit) for logit in d.a.logits.tolist()] for d in of_target]
            found.append(
                {
                    "class": label,
                    "class_id": number,
                    "labelled": len(labelled),
                    "predicted": len(predicted),
                    "correct": correct,
                    "precision": ratio(correct, sum(d.label is not None for d in predicted)),
                    "recall": ratio(correct, len(labelled)),
                    "mean_probability": mean(power[number] / sum(power) for power in powers),
                    "mean_settling_depth": mean(d.settling_depth for d in of_target if d in self.counted),
                }
            )
        return found

    def completeness(self) -> list[Row]:
        found = []
        for depth in range(self.depths):
            estimates = [float(d.a.error_estimate[depth]) for d in self.explained]
            residuals = [float(d.a.completeness_error[depth]) for d in self.explained]
            nodes = [int(d.a.nodes[depth]) for d in self.explained]
            found.append(
                {
                    "depth": depth,
                    "documents": len(estimates),
                    "converged": sum(bool(d.a.converged[depth]) for d in self.explained),
                    "median_error_estimate": statistics.median(estimates),
                    "worst_error_estimate": max(estimates),
                    "median_completeness_error": statistics.median(residuals),
                    "worst_completeness_error": max(residuals),
                    "mean_nodes": statistics.fmean(nodes),
                    "max_nodes": max(nodes),
                }
            )
        return found

    def failures(self) -> list[Row]:
        found = []
        for doc_id, text in enumerate(self.texts):
            item = self.items[document_key(text)]
            if isinstance(item, Failure):
                own = {"doc_id": doc_id, "source_id": f"s{doc_id:03d}", "doc_key": item.key}
                found.append({**own, "reason": item.reason, "detail": item.detail})
        return found

    def runs(self) -> list[Row]:
        """The counted columns only."""
        attributions = [item for item in self.items.values() if isinstance(item, Attribution)]
        known = [d for d in self.explained if d.label is not None]
        pairs = Counter(bool(flag) for d in self.explained for flag in d.a.converged)
        return [
            {
                "documents": self.documents,
                "failures": self.documents - len(self.explained),
                "truncated": sum(d.a.truncated for d in self.explained),
                "unconverged": len(self.explained) - len(self.counted),
                "accuracy": statistics.fmean(d.a.predicted == d.label for d in known),
                "converged_share": pairs[True] / pairs.total(),
                "worst_completeness_error": max(float(d.a.completeness_error.max()) for d in self.explained),
                "worst_error_estimate": max(float(d.a.error_estimate.max()) for d in self.explained),
                "block_passes": sum(a.block_passes for a in attributions),
                "attribution_seconds": sum(a.seconds for a in attributions),
            }
        ]
