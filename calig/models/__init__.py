"""Transformer classifiers, read as embeddings → blocks 1..L → head."""
