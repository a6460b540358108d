"""Corpus-scale, layer-wise explanation of transformer classifiers."""
