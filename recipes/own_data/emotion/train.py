"""Fine-tune on your own labelled audio: folds by speaker, a model and a report in one command.

    python train.py hparams/vesper4.yaml --data_folder /path/to/audio --layout speaker/emotion \
        --encoder FOLDER [--key value]

In place of ``--layout``: ``--csv_file labels.csv`` or ``--names SPEAKER_EMOTION_*``. The classes
are the labels found, unless ``--classes "[...]"`` says otherwise. An interrupted run goes on after
its last finished cell.
"""

import json
import sys

import own_report
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml

from data_prep.manifest import read_manifest
from vesper_lobes import brains
from vesper_lobes.emotion_run import parse_overrides, run_recipe


class EmotionBrain(brains.EmotionBrain):
    """The shared Brain as it is; override its hooks here for experiments on your data."""


def labels_of(argv):
    """The labels that the preparer finds in the data, sorted; its work is not done twice."""
    hparams_file, _, text = sb.parse_arguments(argv)
    overrides = {"classes": ["any", "two"], **parse_overrides(text), "checkpointer": None}
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    folders = hparams["data_folder"], hparams["manifest_folder"]
    prepared = hparams["prepare"](*folders, protocol=hparams["protocol"])
    return sorted(set(read_manifest(prepared.manifest)["emotion"]) - {""}), hparams


def main(argv):
    """Prepare, train, report."""
    labels, hparams = labels_of(argv)
    if "--classes" not in argv and not any(text.startswith("--classes=") for text in argv):
        if len(labels) < 2:
            raise ValueError(f"at least two classes are needed, found {labels}")
        argv = [*argv, "--classes", json.dumps(labels)]
    run_recipe(argv, EmotionBrain, read_manifest)
    print(f"report: {own_report.write(hparams['output_folder'])}")


if __name__ == "__main__":
    main(sys.argv[1:])
