"""Emotion heads on the quickstart's synthetic corpus: held-out voices, three seeds, all baselines.

    python train.py hparams/emotion.yaml --data_folder CORPUS --encoder FOLDER --teacher FOLDER

`quickstart.py` runs it as its fifth stage. It is recipes/EmoDB/emotion with another corpus.
"""

import sys

from data_prep.manifest import read_manifest
from vesper_lobes import brains
from vesper_lobes.emotion_run import run_recipe


class EmotionBrain(brains.EmotionBrain):
    """The shared Brain as it is."""


if __name__ == "__main__":
    run_recipe(sys.argv[1:], EmotionBrain, read_manifest)
