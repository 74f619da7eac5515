"""Corpus preparation: from audio on disk to one manifest, one summary and the protocols' folds."""
