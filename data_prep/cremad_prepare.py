"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset.

91 actors (48 men, 43 women) speak 12 sentences in six emotions, one of them at three levels: 7,442
clips, 5.257 h, 16 kHz. ANG, DIS, FEA, HAP and SAD have 1,271 clips each, NEU 1,087.

Get it    https://github.com/CheyneyComputerScience/CREMA-D, **with git-lfs**: without it a clone
          holds 130-byte pointer files instead of audio.
Licence   Open Database License; cite Cao et al., IEEE Trans. Affective Computing 5(4), 2014.
Layout    ``AudioWAV/1012_IEO_HAP_HI.wav``: actor, sentence, intended emotion, level (XX
          unspecified, LO, MD, HI). Votes of listeners in ``processedResults/summaryTable.csv``.
Classes   ANG DIS FEA HAP NEU SAD: as intended by the actor, as the paper has it. With
          ``--labels perceived`` what most listeners heard (ties and clips without votes are left
          out by name).
Protocols A: one split, 20 % of every emotion to test, seed 2013, epoch picked on test, speakers
          shared. The published split was drawn over a csv whose row order is not known: ours is
          over sorted names, so it is alike and not the same. B: five folds by sorted actor, men and
          women spread evenly (about 18 actors each), dev = next fold.
Quirks    ``1076_MTI_SAD_XX`` is silent. Three pairs are byte-identical under different labels. All
          7,442 are in the manifest and in A; these 7 are in no fold of B and named in the summary.
"""

import csv
import re
import sys
from pathlib import Path, PurePosixPath

from data_prep.folds import check_protocol, groups_of, rotating_folds, stratified_fold
from data_prep.preparation import PreparationError, command_parser, prepare, run_command

CORPUS = "CREMA-D"
CLASSES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
COUNTS = {emotion: 1087 if emotion == "NEU" else 1271 for emotion in CLASSES}
NAME = re.compile(r"(?P<actor>1\d{3})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_[A-Z]{1,2}")
LETTERS = {emotion[0]: emotion for emotion in CLASSES}
VOTES = "processedResults/summaryTable.csv"
SILENT = "1076_MTI_SAD_XX"
IDENTICAL = (
    ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
    ("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
    ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
)
REMARKS = {SILENT: "silent"} | {
    name: f"byte-identical to {other}, another label"
    for pair in IDENTICAL
    for name, other in (pair, pair[::-1])
}
# VideoDemographics.csv of the corpus
WOMEN = frozenset(
    int(actor)
    for actor in """
        1002 1003 1004 1006 1007 1008 1009 1010 1012 1013 1018 1020 1021 1024 1025 1028
        1029 1030 1037 1043 1046 1047 1049 1052 1053 1054 1055 1056 1058 1060 1061 1063
        1072 1073 1074 1075 1076 1078 1079 1082 1084 1089 1091
    """.split()
)
NUM_FOLDS = 5


def prepare_cremad(
    data_folder,
    save_folder,
    protocol="B",
    labels="intended",
    allow_partial=False,
    verify=False,
    workers=None,
):
    """Write CREMA-D's manifest, folds and summary.

    Parameters
    ----------
    data_folder : str or Path
        Holds ``AudioWAV/``.
    save_folder : str or Path
    protocol : "A" or "B"
    labels : "intended" or "perceived"
        What the actor meant, or what most listeners heard in the voice.
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
    if labels not in ("intended", "perceived"):
        raise ValueError(f"labels are intended or perceived, not {labels!r}.")
    perceived = labels == "perceived"
    votes = read_votes(Path(data_folder) / VOTES) if perceived else {}

    def describe(path):
        name = PurePosixPath(path).stem
        match = NAME.fullmatch(name)
        if not match or match["emotion"] not in CLASSES:
            return "not a file name of CREMA-D"
        emotion = votes.get(name, "no votes of listeners") if perceived else match["emotion"]
        if emotion not in CLASSES:
            return emotion
        return {"ID": name, "speaker": match["actor"], "emotion": emotion}

    return prepare(
        corpus=CORPUS,
        data_folder=data_folder,
        save_folder=save_folder,
        options={"labels": labels},
        describe=describe,
        make_folds=make_folds,
        protocol=protocol,
        expected=None if perceived else {"clips": sum(COUNTS.values()), "classes": COUNTS},
        allow_partial=allow_partial,
        keep_silent={SILENT},
        remark=lambda row: REMARKS.get(row["ID"], ""),
        extensions=(".wav", ".flac"),
        inputs=[Path(data_folder) / VOTES] if perceived else [],
        verify=verify,
        workers=workers,
    )


def make_folds(manifest, protocol):
    """A: one stratified split. B: five folds by actor, without the seven doubtful clips."""
    if protocol == "A":
        return stratified_fold(manifest, share=0.2, seed=2013)
    sound = manifest[~manifest["ID"].isin(REMARKS)]
    sexes = {actor: "f" if int(actor) in WOMEN else "m" for actor in set(sound["speaker"])}
    return rotating_folds(sound, groups_of(sound["speaker"], NUM_FOLDS, sexes), protocol)


def read_votes(path):
    """Clip -> the emotion most listeners heard, or the reason why there is none."""
    if not path.is_file():
        raise PreparationError(
            f"{path}: the listeners' votes are not here. They come with the corpus's repository; "
            "without them use labels=intended."
        )
    with open(path, encoding="utf-8-sig", newline="") as file:
        votes = {row["FileName"]: row["VoiceVote"].strip() for row in csv.DictReader(file)}
    return {name: LETTERS.get(vote, f"listeners' tie {vote}") for name, vote in votes.items()}


def main(argv=None):
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--labels", choices=("intended", "perceived"), default="intended")
    return run_command(prepare_cremad, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
