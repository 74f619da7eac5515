"""IEMOCAP, the Interactive Emotional Dyadic Motion Capture database.

Ten actors in five sessions (a woman and a man each) talk in pairs, improvised and scripted; 10,039
labelled utterances, about 12 h, 16 kHz. The usual four-class subset has 5,531: neutral 1,708,
happy with excited 1,636, angry 1,103, sad 1,084; 0.585 to 34.1 s; by session
1,085 / 1,023 / 1,151 / 1,031 / 1,241.

Get it    on request, https://sail.usc.edu/iemocap/; cite Busso et al., 2008.
Licence   research only, signed by the institution.
Layout    ``Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav``; labels in
          ``Session1/dialog/EmoEvaluation/Ses01F_impro01.txt``, lines such as
          ``[6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]``.
Classes   ang, neu, hap, sad; exc counts as hap.
Protocols fold k tests session k. A: epoch picked on that session; B: on session (k mod 5) + 1; C
          (SUPERB's): on a random fifth of the four other sessions.
Quirks    The speaker is the session and the *last* letter group: in Ses01F_impro01_M011 a man
          speaks, F says who wears the markers. Lines ``C-E2:`` and ``A-E3:`` and the folders
          Attribute/, Categorical/, Self-evaluation/ are single raters' votes, no labels. macOS's
          ``._Ses*.txt`` lie among the label files. Improvised (2,943) or scripted (2,588) speech
          alone is half of the set.
"""

import re
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

from data_prep.folds import check_protocol, random_dev_folds, rotating_folds
from data_prep.headers import find_audio
from data_prep.preparation import PreparationError, command_parser, prepare, run_command

CORPUS = "IEMOCAP"
CLASSES = ("ang", "neu", "hap", "sad")
COUNTS = {"ang": 1103, "neu": 1708, "hap": 1636, "sad": 1084}
MERGED = {"ang": "ang", "neu": "neu", "hap": "hap", "exc": "hap", "sad": "sad"}
LABEL = re.compile(r"\[[\d.]+ - [\d.]+\]\t(Ses0\d\S+)\t([a-z]{3})\t\[")
NAME = re.compile(r"(?P<dialogue>Ses0(?P<session>[1-5])[FM]_\w+)_(?P<who>[FM])\w*")


def prepare_iemocap(
    data_folder, save_folder, protocol="B", allow_partial=False, verify=False, workers=None
):
    """Write IEMOCAP's manifest, folds and summary.

    Parameters
    ----------
    data_folder : str or Path
        Holds ``Session1`` to ``Session5``.
    save_folder : str or Path
    protocol : "A", "B" or "C"
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
    check_protocol(protocol, "ABC", CORPUS)
    label_files = _label_files(data_folder)
    labels = read_labels(label_files)
    found = find_audio(data_folder)
    on_disk = {PurePosixPath(file.path).stem for file in found[0]}
    missing = [
        (name, "labelled, not on disk")
        for name, label in sorted(labels.items())
        if label in MERGED and name not in on_disk
    ]

    def describe(path):
        name = PurePosixPath(path).stem
        if "/sentences/" not in f"/{path}":
            return "not in sentences/wav"
        match = NAME.fullmatch(name)
        if not match or name not in labels:
            return "no label"
        if labels[name] not in MERGED:
            return f"label {labels[name]}"
        return {
            "ID": name,
            "speaker": f"Ses0{match['session']}{match['who']}",
            "emotion": MERGED[labels[name]],
            "dialogue": match["dialogue"],
            "session": match["session"],
        }

    return prepare(
        corpus=CORPUS,
        data_folder=data_folder,
        save_folder=save_folder,
        options={},
        describe=describe,
        make_folds=make_folds,
        protocol=protocol,
        expected={"clips": sum(COUNTS.values()), "classes": COUNTS},
        allow_partial=allow_partial,
        found=found,
        missing=missing,
        inputs=label_files,
        verify=verify,
        workers=workers,
    )


def make_folds(manifest, protocol):
    """Fold k tests the k-th session."""
    groups = [[session] for session in sorted(set(manifest["session"]))]
    if protocol == "C":
        return random_dev_folds(manifest, groups, column="session", share=0.2, seed=0)
    return rotating_folds(manifest, groups, protocol, column="session")


def _label_files(data_folder):
    """The label files of all sessions; the pattern leaves macOS's ``._Ses*.txt`` out."""
    files = sorted(Path(data_folder).glob("Session[1-5]/dialog/EmoEvaluation/Ses*.txt"))
    if not files:
        raise PreparationError(
            f"{data_folder}: no Session1/dialog/EmoEvaluation/Ses*.txt in here. "
            "Give the folder that holds Session1 to Session5 as data_folder."
        )
    return files


def read_labels(label_files):
    """Utterance -> three-letter label of the raters' majority (xxx: none)."""
    labels = {}
    for path in label_files:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if match := LABEL.match(line):
                labels[match[1]] = match[2]
    if not labels:
        counts = Counter(path.parent for path in label_files)
        raise PreparationError(f"no label line in {dict(counts)}. Unpack the corpus again.")
    return labels


def main(argv=None):
    """The command."""
    return run_command(prepare_iemocap, command_parser(__doc__, "ABC").parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
