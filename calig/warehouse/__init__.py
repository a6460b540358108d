"""The warehouse: every result of every run, as Parquet files and one DuckDB file of aggregates.

::

    <warehouse>/
      .lock                                        held (flock) by the one writer; says who it is
      corpora/<corpus key>/part-*.parquet          texts, labels and extra columns, in the order of a hash of
                                                   doc_key; manifest.json
      schedules/<key>.json                         learned quadrature schedules
      attributions/<attribution key>/              shared by all runs that need it
        tokens-<shard>.parquet                     a row per token and class: span, ig_00 … ig_L, ctx_01 … ctx_L
        documents-<shard>.parquet                  a row per document and explained class, failures too
        manifest-<shard>.json                      written last: the shard is done
      runs/<run id>/documents.parquet              the run's documents by doc_id, without text
      runs/<run id>/explained.parquet              which class of each document the run shows
      runs/<run id>/manifest.json                  what was run, and how, and how far it is: complete is written last
      runs/<run id>/attributions.parquet           the shards that it counts on
      runs/<run id>/report/index.html
      runs/<run id>/gates.json                     which of the audit's gates held
      runs/<run id>/comparisons/<reference>/       what changed since another run; its manifest.json written last
      tags/<tag>                                   a run's id
      evaluations/<evaluation id>/                 what `calig evaluate` measured
        values-<shard>.parquet                     a row per document, method, metric, removal and share
        scores-<shard>.parquet                     a row per document and method: its scores, and what they cost
        documents-<shard>.parquet                  a row per document, failures too
        manifest-<shard>.json                      written last: the shard is done
        manifest.json, report/index.html
      .pruned/                                     what a prune has set aside; there while it is not finished
      calig.duckdb                                 aggregates of all runs; rebuilt from the files at will

Truth is in the files. A shard is done when `manifest-<shard>.json` is there, the files it lists have the
sizes and SHA-256 it lists, and no other done shard lists it under `replaces`. Every file is written under a
temporary name (`.<name>.<random>.part`), synced and renamed, so whatever is killed whenever, a file under its
final name is whole, and what lacks a manifest is done again.

Every manifest says by which version it was written (`calig.formats`): older formats are read, newer ones refused and
left alone. Who reads a run pins its folders (`calig.warehouse.pins`): what is pinned is neither deleted nor moved away.
"""
