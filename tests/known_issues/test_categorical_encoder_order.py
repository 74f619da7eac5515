"""``CategoricalEncoder`` numbers labels as they come; class numbers here are the YAML's order."""

import pandas as pd
from speechbrain.dataio.encoder import CategoricalEncoder

from vesper_lobes.emotion_cells import Corpus, Fold

CLASSES = ["angry", "happy", "neutral", "sad"]


def test_the_trap_is_real():
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(["sad", "angry"])
    assert encoder.lab2ind["sad"] == 0


def test_class_numbers_do_not_depend_on_the_order_of_rows():
    emotions = {"a": "sad", "b": "neutral", "c": "angry", "d": "happy"}
    for order in ("abcd", "dcba"):
        manifest = pd.DataFrame({"ID": list(order), "emotion": [emotions[i] for i in order]})
        corpus = Corpus(manifest, CLASSES, [Fold(1, ["a"], ["b"], ["c"])])
        numbers = dict(zip(order, corpus.targets.tolist(), strict=True))
        assert numbers == {"a": 3, "b": 2, "c": 0, "d": 1}


def test_a_set_without_some_classes_keeps_the_numbers():
    manifest = pd.DataFrame({"ID": ["a", "b", "c"], "emotion": ["sad", "sad", "neutral"]})
    corpus = Corpus(manifest, CLASSES, [Fold(1, ["a"], ["b"], ["c"])])
    assert corpus.targets.tolist() == [3, 3, 2]
