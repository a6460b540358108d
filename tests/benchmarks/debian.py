"""A whole corpus: 35,135 descriptions of Debian packages, twelve sections, every depth of a fine-tuned MiniLM.

    python -m tests.benchmarks.debian train     --out MODEL   [--device cuda]
    python -m tests.benchmarks.debian attribute --model MODEL --out WAREHOUSE [--device cuda] [--processes N …]
    python -m tests.benchmarks.debian finish    --model MODEL --warehouse WAREHOUSE

`train` fine-tunes `$CALIG_SHARED/models/minilm-sst2` on debian_sections-train, seeded, and states its accuracy on
debian_sections-test. `attribute` is the core alone (no Prefect, no DuckDB: it runs on a machine that has torch,
transformers and pyarrow): it learns a step schedule, then processes that share the device pull shards, explain them and
write them as the audit does. `finish` runs the audit on what they wrote: it computes nothing again, aggregates and
writes the report. Each leaves its figures in a JSON file beside its output, from which `finish` writes the results.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from calig.attribution.explainer import Explainer, attribution_key, schedule_key
from calig.attribution.method import Method
from calig.attribution.schedule import PILOT_DOCUMENTS, Schedule
from calig.files import Files
from calig.models.loading import fingerprint, load_pretrained
from calig.records import Document, document_key
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import write_shard

SHARED = Path(os.environ.get("CALIG_SHARED", "../shared"))
RESULTS = Path(__file__).parent / "results"
CLASSES = (
    *("devel", "doc", "golang", "haskell", "javascript", "libdevel"),
    *("libs", "net", "perl", "python", "rust", "utils"),
)
SEED, EPOCHS, BATCH, RATE, LONGEST = 7, 3, 64, 5e-5, 256
SHARD = 1024
"""Documents of a shard; the first shards hold the longest documents, so that the last ones end together."""

THERMOSTAT = 180
"""GPU seconds per explanation of the one published corpus of explanations (Feldhus et al., EMNLP 2021), on average."""
FLOAT32_PEAK = 67
"""TFLOP/s of an H100 SXM outside of its tensor cores, as its maker states them."""
FLOPS = """
SELECT sum(2 * block_passes * (24 * {width}::DOUBLE ** 2 * tokens + 4 * {width} * tokens::DOUBLE ** 2)) FROM documents
"""
"""Of a block of that width, forward and (with respect to its input) backward, over all passes."""
WORDS = """
SELECT class, word, effect FROM word_stats
QUALIFY row_number() OVER (PARTITION BY class ORDER BY effect DESC) <= 6 ORDER BY class, effect DESC
"""


def rows(split: str) -> tuple[list[str], list[int]]:
    """Texts and labels of a split."""
    table = pq.read_table(SHARED / "corpora" / f"debian_sections-{split}.parquet", columns=["text", "label"])
    return table["text"].to_pylist(), table["label"].to_pylist()


def train(out: Path, device: str) -> None:
    """Fine-tune, save in float16 as safetensors, and note the accuracy."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(SEED)
    source = SHARED / "models" / "minilm-sst2"
    tokenizer = AutoTokenizer.from_pretrained(source)
    names = {"id2label": dict(enumerate(CLASSES)), "label2id": {c: i for i, c in enumerate(CLASSES)}}
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=len(CLASSES), ignore_mismatched_sizes=True, dtype=torch.float32, **names
    ).to(device)
    texts, labels = rows("train")
    ids = tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
    steps = EPOCHS * -(-len(texts) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(step / (0.1 * steps), (steps - step) / (0.9 * steps))
    )
    rng = np.random.default_rng(SEED)
    start = time.perf_counter()
    model.train()
    for _ in range(EPOCHS):
        order = rng.permutation(len(texts))
        for first in range(0, len(texts), BATCH):
            members = order[first : first + BATCH]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in members]}, return_tensors="pt").to(device)
            wanted = torch.tensor([labels[i] for i in members], device=device)
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                loss = model(**batch, labels=wanted).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            rate.step()
    seconds = time.perf_counter() - start
    model.eval().half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    found = {"accuracy": accuracy(out, device), "seconds": round(seconds, 1), "epochs": EPOCHS, "seed": SEED}
    (out / "training.json").write_text(json.dumps(found))
    print(found, flush=True)


def accuracy(folder: Path, device: str) -> float:
    """The share of debian_sections-test that the model as loaded by calig gets right."""
    pretrained = load_pretrained(str(folder), device=device)
    assert pretrained.tokenizer is not None
    texts, labels = rows("test")
    right = 0
    for first in range(0, len(texts), 256):
        batch = pretrained.tokenizer(
            texts[first : first + 256], truncation=True, max_length=512, padding=True, return_tensors="pt"
        ).to(device)
        with torch.no_grad():
            answers = pretrained.model(**batch).logits.argmax(-1).tolist()
        right += sum(a == b for a, b in zip(answers, labels[first : first + 256], strict=True))
    return right / len(texts)


@contextmanager
def busy(device: str) -> Iterator[list[tuple[float, int]]]:
    """Give, for the time of a block, how busy a GPU was (moment, percent) as its driver samples it every 0.2 s."""
    samples: list[tuple[float, int]] = []
    if not device.startswith("cuda"):
        yield samples
        return
    query = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200")
    with subprocess.Popen(["nvidia-smi", *query], stdout=subprocess.PIPE, text=True) as process:

        def read() -> None:
            assert process.stdout is not None
            samples.extend(
                (time.perf_counter(), int(line)) for line in process.stdout if line.strip().isdigit()
            )

        threading.Thread(target=read, daemon=True).start()
        try:
            yield samples
        finally:
            process.kill()


def shards_of(documents: list[Document], size: int) -> list[list[Document]]:
    """Shards of documents of similar length, the longest first."""
    ordered = sorted(documents, key=lambda d: (-len(d.text or ""), d.key))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def work(
    model: str, device: str, dtype: str, schedule: Schedule, folder: Path, tasks: Any, answers: Any
) -> None:
    """A worker: load the model once, then explain and write shards until there are none."""
    torch.set_num_threads(1)
    explainer = Explainer(load_pretrained(model, device=device, dtype=dtype), Method(), schedule)
    explainer.attribute([Document(document_key("warm up"), "warm up")])
    answers.put(("ready", None))
    for documents in iter(tasks.get, None):
        start = time.perf_counter()
        items = explainer.attribute(documents)
        explained = time.perf_counter()
        manifest = write_shard(Files(folder), folder, items, explained - start)
        written = time.perf_counter()
        answers.put(
            (
                "shard",
                {
                    "documents": manifest.documents,
                    "failures": manifest.failures,
                    "tokens": manifest.tokens,
                    "bytes": manifest.bytes,
                    "attribution": explained - start,
                    "writing": written - explained,
                    "block_passes": sum(getattr(item, "block_passes", 0) for item in items),
                },
            )
        )


def explained(
    model: str,
    device: str,
    dtype: str,
    schedule: Schedule,
    folder: Path,
    shards: list[list[Document]],
    processes: int,
) -> dict[str, Any]:
    """Explain and write shards with so many processes on one device; the figures."""
    context = multiprocessing.get_context("spawn")
    tasks, answers = context.Queue(), context.Queue()
    workers = [
        context.Process(target=work, args=(model, device, dtype, schedule, folder, tasks, answers))
        for _ in range(processes)
    ]
    with busy(device) as gpu:
        for worker in workers:
            worker.start()
        for _ in workers:
            assert answers.get() == ("ready", None)
        start = time.perf_counter()
        for shard in shards:
            tasks.put(shard)
        for _ in workers:
            tasks.put(None)
        found = [answers.get()[1] for _ in shards]
        end = time.perf_counter()
        used = [percent for moment, percent in gpu if start <= moment <= end]
    for worker in workers:
        worker.join()
    seconds = end - start
    totals = {key: sum(shard[key] for shard in found) for key in found[0]}
    return totals | {
        "processes": processes,
        "dtype": dtype,
        "shards": len(shards),
        "shard_documents": max(map(len, shards)),
        "seconds": seconds,
        "documents_per_second": totals["documents"] / seconds,
        "device_seconds_per_document": seconds / totals["documents"],
        "writing_share": totals["writing"] / (totals["writing"] + totals["attribution"]),
        "busy": sum(used) / len(used) / 100 if used else None,
    }


def attribute(asked: argparse.Namespace) -> None:
    """Learn the schedule, then explain the corpus; several counts of processes: the others on a part, to compare."""
    model, out, device = asked.model, asked.out, asked.device
    texts = rows("train")[0][: asked.limit]
    documents = [Document(document_key(text), text) for text in texts]
    pretrained = load_pretrained(model, device=device)
    own = fingerprint(pretrained)
    explainer = Explainer(pretrained, Method())
    start = time.perf_counter()
    schedule = explainer.pilot(heapq.nsmallest(PILOT_DOCUMENTS, documents, key=lambda d: d.key))
    pilot = time.perf_counter() - start
    method = explainer.method
    warehouse = Warehouse(out)
    warehouse.schedules.mkdir(parents=True, exist_ok=True)
    (warehouse.schedules / f"{schedule_key(own, method)}.json").write_text(schedule.to_json())
    folder = warehouse.attributions(attribution_key(own, method, schedule))
    del explainer, pretrained
    some = documents[:: max(1, len(documents) // 4096)]
    found: dict[str, Any] = {
        "machine": asked.machine,
        "versions": {"torch": torch.__version__},
        "schedule": asdict(schedule),
        "pilot_seconds": pilot,
        "part": [],
    }
    first, *others = asked.processes
    for count in others:
        place, shards = out / f"part-{count}", shards_of(some, asked.shard)
        found["part"].append(explained(model, device, "float32", schedule, place, shards, count))
        print(found["part"][-1], flush=True)
    shards = shards_of(documents, asked.shard)
    found["whole"] = explained(model, device, "float32", schedule, folder, shards, first)
    print(found["whole"], flush=True)
    (out / "attribution.json").write_text(json.dumps(found, indent=1))


def finish(model: Path, warehouse: Path) -> None:
    """Run the audit's stages on what `attribute` wrote, each timed; write the results of all steps."""
    from calig import stages
    from calig.config import parse_config
    from calig.warehouse.query import query

    corpus = {"path": str(SHARED / "corpora" / "debian_sections-train.parquet"), "label": "label", "id": "id"}
    config = parse_config(
        {"name": "debian", "model": {"id": str(model)}, "corpus": corpus, "warehouse": str(warehouse)}
    )
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    warehouse = Warehouse.open(config.warehouse)
    card = stages.describe_model(config)
    with timed("ingest"):
        documents = stages.bring_in(warehouse, config, card)
    schedule = stages.learn_schedule(warehouse, config, card, documents)
    run = stages.start_run(warehouse, config, card, documents, schedule)
    with timed("anti-join"):
        missing = stages.missing_shards(run)
    if missing:
        raise SystemExit(f"{sum(map(len, missing))} documents are not attributed under {run.attribution_key}")
    with timed("aggregate"):
        stages.aggregate_run(run, 0, {})
    with timed("gates"):
        stages.check_gates(run)
    with timed("report"):
        page = stages.write_report(run)
        stages.complete_run(run)
    words = query(run.warehouse, WORDS).rows
    whole = json.loads((warehouse / "attribution.json").read_text())
    width = json.loads((model / "config.json").read_text())["hidden_size"]
    flops = query(run.warehouse, FLOPS.format(width=width)).rows[0][0]
    found = {
        "training": json.loads((model / "training.json").read_text()),
        **whole,
        "tflops": flops / whole["whole"]["seconds"] / 1e12,
        "stages": {name: round(spent, 2) for name, spent in seconds.items()},
        "stages_machine": f"{os.cpu_count()} CPU cores, shared",
        "accuracy_on_the_corpus": query(run.warehouse, "SELECT accuracy FROM runs").rows[0][0],
        "converged_share": query(run.warehouse, "SELECT converged_share FROM runs").rows[0][0],
        "worst_error_estimate": query(run.warehouse, "SELECT worst_error_estimate FROM runs").rows[0][0],
        "report_bytes": page.stat().st_size,
        "words": {name: [word for _, word, _ in rows] for name, rows in groupby(words, key=itemgetter(0))},
    }
    (RESULTS / "debian.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "debian.md").write_text(markdown(found))
    print(markdown(found))


def markdown(found: dict[str, Any]) -> str:
    """Lay the results out with their circumstances."""
    whole, spent = found["whole"], found["stages"]
    each = whole["device_seconds_per_document"]
    lines = [
        "# A whole corpus: Debian's package descriptions",
        "",
        f"{whole['documents']:,} descriptions ({whole['tokens']:,} tokens), minilm-sst2 fine-tuned on their twelve "
        f"sections (`train`: {found['training']['epochs']} epochs, accuracy {found['training']['accuracy']:.3f} on "
        f"debian_sections-test), every depth, tolerance 1e-2, {whole['dtype']}, {found['machine']}, torch "
        f"{found['versions']['torch']}; {whole['processes']} processes share the device.",
        "",
        "| | |",
        "|---|---|",
        f"| attribution and writing | {whole['seconds']:.0f} s after a pilot of {found['pilot_seconds']:.0f} s |",
        f"| documents/s | {whole['documents_per_second']:.1f} |",
        f"| device seconds per document | {each:.4f} (Thermostat: about {THERMOSTAT}) |",
        f"| device busy | {whole['busy']:.1%} of the time |",
        f"| of the workers' time: writing | {whole['writing_share']:.2%} |",
        f"| written | {whole['bytes'] / 1e6:.0f} MB, {whole['bytes'] / whole['tokens']:.0f} bytes per token |",
        f"| arithmetic | {found['tflops']:.1f} TFLOP/s, {found['tflops'] / FLOAT32_PEAK:.0%} of {FLOAT32_PEAK} |",
        f"| converged | {found['converged_share']:.3%} of (document, depth) |",
        f"| worst error estimate | {found['worst_error_estimate']:.4f} |",
        f"| failures | {whole['failures']} |",
        "",
        f"Then, from those shards, on {found['stages_machine']}:",
        "",
        "| stage | s |",
        "|---|---|",
        *(f"| {name} | {seconds:.1f} |" for name, seconds in spent.items()),
        "",
        f"The report has {found['report_bytes'] / 1e6:.2f} MB. Accuracy on these documents, on which the model was "
        f"trained: {found['accuracy_on_the_corpus']:.3f}.",
        "",
    ]
    if found["part"]:
        lines += [
            f"Processes that share the device, {found['part'][0]['documents']:,} of the documents in "
            f"{found['part'][0]['shards']} shards (`--shard {found['part'][0]['shard_documents']}`):",
            "",
            "| processes | documents/s | busy |",
            "|---|---|---|",
            *(
                f"| {part['processes']} | {part['documents_per_second']:.1f} | {part['busy']:.0%} |"
                for part in found["part"]
            ),
            "",
        ]
    lines += [
        "Words of the largest mean effect, by explained section:",
        "",
        *(f"- {name}: {', '.join(words)}" for name, words in found["words"].items()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    one = steps.add_parser("train")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--device", default="cpu")
    two = steps.add_parser("attribute")
    two.add_argument("--model", required=True)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--device", default="cpu")
    two.add_argument("--processes", type=int, nargs="+", default=[1], help="the first: for the whole corpus")
    two.add_argument("--limit", type=int)
    two.add_argument("--shard", type=int, default=SHARD, help="documents of a shard")
    two.add_argument("--machine", default=f"{os.cpu_count()} CPU cores")
    three = steps.add_parser("finish")
    three.add_argument("--model", type=Path, required=True)
    three.add_argument("--warehouse", type=Path, required=True)
    asked = parser.parse_args()
    if asked.step == "train":
        train(asked.out, asked.device)
    elif asked.step == "finish":
        finish(asked.model, asked.warehouse)
    else:
        attribute(asked)


if __name__ == "__main__":
    main()
