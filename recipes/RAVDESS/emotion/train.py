"""Emotion recognition on RAVDESS from a frozen encoder, all seeds and folds in one command.

    python train.py hparams/vesper4.yaml --data_folder /path/to/RAVDESS --encoder FOLDER \
        [--teacher FOLDER] [--protocol A|B] [--key value]

Writes ``metrics.json`` with the baselines of the same run on the same folds, and an exported model.
An interrupted run goes on after its last finished cell. What is RAVDESS's own stands in the YAML.
"""

import sys

from data_prep.manifest import read_manifest
from vesper_lobes import brains
from vesper_lobes.emotion_run import run_recipe


class EmotionBrain(brains.EmotionBrain):
    """The shared Brain as it is; override its hooks here for experiments on this corpus."""


if __name__ == "__main__":
    run_recipe(sys.argv[1:], EmotionBrain, read_manifest)
