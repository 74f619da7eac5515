"""The quickstart's synthetic corpus: espeak-ng voices that act four emotions.

24 voices (12 female, 12 male) x 12 English sentences x 4 emotions, 1,152 utterances, 16 kHz mono.

Get it    python recipes/quickstart/synthesize.py --save_folder OUT
Licence   yours: espeak-ng (GPL-3, which does not extend to its output) makes it here.
Layout    ``spk01/angry/spk01_angry_s01.wav``: voice, emotion, sentence.
Classes   angry, happy, neutral, sad; 288 each.
Folds     one: voices, in sorted order, go to train (half), dev (a sixth) and test (a third).
          ``pretrain.csv``, the rows of the train and dev voices, is what self-supervised stages
          may hear, so that nothing of the test voices is heard before the test.
Quirks    Not speech of people: no result on it says anything about emotion in real speech. Voices
          in sorted order alternate in sex, so every set holds both.
"""

import re
import sys
from pathlib import Path, PurePosixPath

from data_prep.folds import check_protocol, official_fold
from data_prep.manifest import read_manifest, write_manifest
from data_prep.preparation import command_parser, prepare, run_command

CORPUS = "synthetic"
NAME = re.compile(r"(?P<speaker>spk\d+)_(?P<emotion>angry|happy|neutral|sad)_s\d+")
CLASSES = ("angry", "happy", "neutral", "sad")
TRAIN_SHARE, DEV_SHARE = 1 / 2, 1 / 6  # of the voices; the rest are test voices
PRETRAIN_FILE = "pretrain.csv"


def split_of(speakers):
    """Voice -> "train", "dev" or "test".

    Raises
    ------
    ValueError
        With fewer than three voices there is nothing left for one of the sets.

    Examples
    --------
    >>> list(split_of(["spk01", "spk02", "spk03", "spk04"]).values())
    ['train', 'train', 'dev', 'test']
    """
    speakers = sorted(set(speakers))
    if len(speakers) < 3:
        raise ValueError(f"{len(speakers)} voices: train, dev and test need at least one each.")
    first = max(1, round(TRAIN_SHARE * len(speakers)))
    second = first + max(1, round(DEV_SHARE * len(speakers)))
    second = min(second, len(speakers) - 1)
    names = ["train"] * first + ["dev"] * (second - first) + ["test"] * (len(speakers) - second)
    return dict(zip(speakers, names, strict=True))


def prepare_synthetic(data_folder, save_folder, protocol="B", verify=False, workers=None):
    """Write the corpus's manifest, its fold, ``pretrain.csv`` and summary.

    Parameters
    ----------
    data_folder : str or Path
        What ``synthesize.py`` made.
    save_folder : str or Path
    protocol : "B"
    verify : bool
        Decode and hash every file.
    workers : int, optional
        Threads that read files.

    Returns
    -------
    Prepared
        Paths: manifest, folds (of train, dev, test), summary.

    Raises
    ------
    PreparationError, ProtocolError, ValueError
    """
    check_protocol(protocol, "B", CORPUS)
    matches = {p.name: NAME.fullmatch(p.stem) for p in Path(data_folder).glob("spk*/*/*.wav")}
    split = split_of(match["speaker"] for match in matches.values() if match)

    def describe(path):
        match = NAME.fullmatch(PurePosixPath(path).stem)
        if not match:
            return "not a file name of the synthetic corpus"
        fields = {"ID": match[0], "speaker": match["speaker"], "emotion": match["emotion"]}
        return {**fields, "split": split[match["speaker"]]}

    prepared = prepare(
        corpus=CORPUS,
        data_folder=data_folder,
        save_folder=save_folder,
        options={"train_share": TRAIN_SHARE, "dev_share": DEV_SHARE},
        describe=describe,
        make_folds=official_fold,
        protocol=protocol,
        verify=verify,
        workers=workers,
    )
    manifest = read_manifest(prepared.manifest, classes=CLASSES)
    write_manifest(manifest[manifest["split"] != "test"], Path(save_folder) / PRETRAIN_FILE)
    return prepared


def main(argv=None):
    """The command."""
    arguments = command_parser(__doc__, protocols="B").parse_args(argv)
    del arguments.allow_partial
    return run_command(prepare_synthetic, arguments)


if __name__ == "__main__":
    sys.exit(main())
