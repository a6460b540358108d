"""The corpus: documents from files or the hub, brought into the warehouse as Parquet parts.

`<root>/corpora/<key>/` exists: the corpus is whole, in `part-*.parquet`; the key is the hash of its content,
whatever the order of its parts.
`<root>/corpora/.ingest-*` exists: an ingest is under way, or was interrupted.
"""

from calig.corpus.fingerprints import check, fingerprint
from calig.corpus.ingest import ingest
from calig.corpus.manifest import CorpusManifest, claim, load_corpus, verify

__all__ = ["CorpusManifest", "check", "claim", "fingerprint", "ingest", "load_corpus", "verify"]
