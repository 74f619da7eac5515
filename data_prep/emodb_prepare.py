"""EmoDB, the Berlin Database of Emotional Speech.

Ten actors (five women, five men) spoke ten everyday German sentences in seven emotions in an
anechoic room in 1997-1999; 535 utterances that listeners recognised and found natural remain,
about 25 minutes, 16 kHz mono, 1.2 to 9 s.

Get it    http://emodb.bilderbar.info/download (one zip, 40 MB); mirrors exist on Zenodo and Kaggle.
Licence   free to use, no formal text; cite Burkhardt et al., "A Database of German Emotional
          Speech", Interspeech 2005.
Layout    ``wav/03a01Wa.wav`` (also .flac): speaker 03, text a01, emotion letter W, take a.
Letters   W anger (Wut), L boredom (Langeweile), E disgust (Ekel), A fear (Angst), F happiness
          (Freude), T sadness (Trauer), N neutral.
Classes   4: angry 127, happy 71, neutral 79, sad 62 (339 clips);
          7: and boredom 81, disgust 46, fear 69 (535 clips).
Folds     five, of two speakers in sorted order: (03, 08) (09, 10) (11, 12) (13, 14) (15, 16).
Quirks    All speakers say the same ten sentences, so folds are disjoint by speaker, never by text.
          The download carries lablaut/, silb/, labsilb/ folders of phonetic labels: no audio there.
"""

import re
import sys
from pathlib import PurePosixPath

from data_prep.folds import check_protocol, groups_of, rotating_folds
from data_prep.preparation import command_parser, prepare, run_command

CORPUS = "EmoDB"
NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<letter>[A-Z])(?P<take>[a-z]?)")
EMOTIONS = {
    "W": "angry",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happy",
    "N": "neutral",
    "T": "sad",
}
CLASSES = {
    4: ("angry", "happy", "neutral", "sad"),
    7: ("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad"),
}
COUNTS = {
    "angry": 127,
    "boredom": 81,
    "disgust": 46,
    "fear": 69,
    "happy": 71,
    "neutral": 79,
    "sad": 62,
}
NUM_FOLDS = 5


def prepare_emodb(
    data_folder,
    save_folder,
    protocol="B",
    num_classes=4,
    allow_partial=False,
    verify=False,
    workers=None,
):
    """Write EmoDB's manifest, folds and summary.

    Parameters
    ----------
    data_folder : str or Path
        Holds ``wav/``, as unpacked.
    save_folder : str or Path
    protocol : "A" or "B"
    num_classes : 4 or 7
        With 4, the full corpus of 535 clips gives 339.
    allow_partial : bool
        Accept other counts than the published ones.
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
    PreparationError, ProtocolError
    """
    check_protocol(protocol, "AB", CORPUS)
    if num_classes not in CLASSES:
        raise ValueError(f"EmoDB has 4 or 7 classes, not {num_classes}.")
    classes = CLASSES[num_classes]

    def describe(path):
        name = PurePosixPath(path).stem
        match = NAME.fullmatch(name)
        if not match or match["letter"] not in EMOTIONS:
            return "not a file name of EmoDB"
        emotion = EMOTIONS[match["letter"]]
        if emotion not in classes:
            return f"{emotion} is none of the {num_classes} classes"
        return {"ID": name, "speaker": match["speaker"], "emotion": emotion}

    counts = {emotion: COUNTS[emotion] for emotion in classes}
    return prepare(
        corpus=CORPUS,
        data_folder=data_folder,
        save_folder=save_folder,
        options={"num_classes": num_classes},
        describe=describe,
        make_folds=make_folds,
        protocol=protocol,
        expected={"clips": sum(counts.values()), "classes": counts},
        allow_partial=allow_partial,
        verify=verify,
        workers=workers,
    )


def make_folds(manifest, protocol):
    """Five folds of two speakers."""
    return rotating_folds(manifest, groups_of(manifest["speaker"], NUM_FOLDS), protocol)


def main(argv=None):
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--num_classes", type=int, choices=sorted(CLASSES), default=4)
    return run_command(prepare_emodb, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
