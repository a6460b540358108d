"""The demo's material: a corpus with planted evidence and a small classifier that falls for it."""
