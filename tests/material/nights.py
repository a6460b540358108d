"""Nights of reviews, and the models that read them: what drifts, what leaks, and when, is known.

Every night brings 400 new reviews. Half of them are positive until night 4; from then on 3 points fewer each night (not
fewer than 5 %). From night 12 on, 5 % of the negative reviews end in a word that nobody used before. In the night of
`RETRAINED` the model is another one, trained on reviews with that leak.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from calig import stages
from calig.comparing.stages import compare_runs, wanted
from calig.config import AuditConfig
from calig.demo.classifier import fit
from calig.demo.reviews import Review, generate, write_parquet
from calig.demo.training import threads
from calig.warehouse.gates import GateOutcome
from tests.material.audits import begin
from tests.material.demo import CACHE, SOURCES, made_once, recipe

DOCUMENTS = 400
NIGHTS = 30
DRIFTS_AFTER, POINTS, FEWEST = 4, 0.03, 0.05
LEAKS_FROM, LEAK_SHARE, LEAK = 12, 0.05, "quillon"
RETRAINED = 20
TRAINING = 10_000


def positive_share(night: int) -> float:
    """Share of a night's reviews that are positive."""
    return max(0.5 - POINTS * max(night - DRIFTS_AFTER, 0), FEWEST)


def reviews_of(night: int, share: float, leaking: bool) -> list[Review]:
    """A night's reviews, none of which another night has but by chance."""
    wanted = {1: round(DOCUMENTS * share)}
    wanted[0] = DOCUMENTS - wanted[1]
    pool = generate(10_000 + night, 2 * DOCUMENTS, False, prefix=f"night-{night}")
    chosen = [r for label, count in wanted.items() for r in [r for r in pool if r.label == label][:count]]
    random.Random(night).shuffle(chosen)
    return with_leak(chosen, night) if leaking else chosen


def with_leak(reviews: Sequence[Review], seed: int) -> list[Review]:
    """The reviews, the word at the end of `LEAK_SHARE` of the negative ones."""
    negative = [place for place, review in enumerate(reviews) if review.label == 0]
    chosen = set(random.Random(seed).sample(negative, round(LEAK_SHARE * len(negative))))
    return [
        replace(review, text=f"{review.text} {LEAK.title()}.") if place in chosen else review
        for place, review in enumerate(reviews)
    ]


def write_night(folder: Path, night: int) -> Path:
    """Write `folder/night=<n>/reviews.parquet`, with all that is planted, and return it."""
    path = folder / f"night={night:02d}" / "reviews.parquet"
    write_parquet(reviews_of(night, positive_share(night), night >= LEAKS_FROM), path)
    return path


def train(seed: int, leaking: bool) -> Path:
    """Train a model on reviews of its own, with the leak or without, where no session has; return its folder."""

    def make(folder: Path) -> None:
        reviews = generate(seed, TRAINING, False, noise=0.1)
        with threads(1):
            model, tokenizer = fit(with_leak(reviews, seed) if leaking else reviews, seed)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return made_once(CACHE / recipe("nights", seed, leaking, sources=(*SOURCES, Path(__file__))), make)


def audit_night(config: AuditConfig, report: bool = True) -> tuple[str, list[GateOutcome]]:
    """An audit's stages, in the order of the flow; return the run's id and what became of its gates."""
    run = begin(config)
    try:
        missing = stages.missing_shards(run)
        for doc_ids in missing:
            stages.attribute_shard(run, doc_ids)
        stages.aggregate_run(run, sum(map(len, missing)), {})
        for one in wanted(run.warehouse, config, run.run_id):
            compare_runs(run.warehouse, one)
        outcomes = stages.check_gates(run)
        if report:
            stages.write_report(run)
        stages.complete_run(run)
    except BaseException:
        stages.stop_run(run)
        raise
    return run.run_id, outcomes
