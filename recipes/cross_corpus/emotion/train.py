"""Protocol D: train on one corpus, test on the others, over four shared classes, in one command.

    python train.py hparams/vesper_mini.yaml --encoder FOLDER --EmoDB FOLDER --RAVDESS FOLDER \
        [--IEMOCAP FOLDER] [--MELD FOLDER] [--CREMA-D FOLDER] [--key value]

Writes the matrix as files (``matrix/<train>_to_<test>/metrics.json``), table (``matrix.md``) and
picture (``matrix.png``). An interrupted run goes on after its last finished head.
"""

import sys

import matrix

from data_prep.manifest import read_manifest
from vesper_lobes import brains
from vesper_lobes.cross_corpus_run import run_cross_corpus


class EmotionBrain(brains.EmotionBrain):
    """The shared Brain as it is; override its hooks here for experiments across corpora."""


if __name__ == "__main__":
    run = run_cross_corpus(sys.argv[1:], EmotionBrain, read_manifest)
    print(matrix.write(run.folder))
