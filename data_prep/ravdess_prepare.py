"""RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song (its speech part).

24 professional actors (odd numbers men, even women) speak two English sentences in eight emotions,
each twice and, but for neutral, at two intensities: 60 clips an actor, 1,440 in all, 48 kHz, about
3.7 s each, 1.5 h.

Get it    https://zenodo.org/record/1188976, file Audio_Speech_Actors_01-24.zip (208 MB).
Licence   CC BY-NC-SA 4.0; cite Livingstone and Russo, PLoS ONE 13(5), 2018.
Layout    ``Actor_01/03-01-05-02-01-02-01.wav``, with or without ``Audio_Speech_Actors_01-24/``
          above; any audio extension.
Name      modality (03 audio), channel (01 speech, 02 song), emotion, intensity (01 normal,
          02 strong), statement (01 kids, 02 dogs), repetition, actor.
Classes   8, in code order: neutral 96, calm, happy, sad, angry, fear, disgust, surprise 192 each.
Folds     six, of neighbours among the sorted actors (four, when all 24 are there), so that men and
          women stay balanced.
Quirks    The unpacked archive of some mirrors holds every clip twice, the second time in an inner
          folder of nearly the same name: the second copies are left out by name. A few clips have
          two channels. Some uploads cut the clips (to 2.389 s) and lack some: counts tell.
"""

import re
import sys
from itertools import product
from pathlib import PurePosixPath

from data_prep.folds import check_protocol, groups_of, rotating_folds
from data_prep.headers import find_audio
from data_prep.preparation import command_parser, prepare, run_command

CORPUS = "RAVDESS"
NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
COUNTS = {emotion: 96 if emotion == "neutral" else 192 for emotion in CLASSES}
NUM_FOLDS = 6
NUM_ACTORS = 24
# emotion, intensity, statement, repetition; neutral has no strong intensity
CLIPS = [
    f"{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}"
    for emotion, intensity, statement, repetition in product(range(1, 9), *[(1, 2)] * 3)
    if (emotion, intensity) != (1, 2)
]


def prepare_ravdess(
    data_folder,
    save_folder,
    protocol="B",
    actors=None,
    allow_partial=False,
    verify=False,
    workers=None,
):
    """Write RAVDESS's manifest, folds and summary.

    Parameters
    ----------
    data_folder : str or Path
        Holds ``Actor_01`` to ``Actor_24``, directly or in a folder below.
    save_folder : str or Path
    protocol : "A" or "B"
    actors : sequence of int, optional
        Use these only, such as to keep some unheard; a subset counts as partial.
    allow_partial : bool
        Accept fewer than 24 actors, or actors with clips missing.
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
    wanted = None if actors is None else sorted(f"{int(actor):02d}" for actor in actors)

    def describe(path):
        name = PurePosixPath(path).stem
        match = NAME.fullmatch(name)
        if not match:
            return "not a file name of RAVDESS"
        modality, channel, emotion, _, _, _, actor = match.groups()
        if channel != "01":
            return "song, not speech"
        if modality == "02" or not 1 <= int(emotion) <= len(CLASSES):
            return "not a code of RAVDESS's speech"
        if wanted is not None and actor not in wanted:
            return "actor not asked for"
        return {"ID": name, "speaker": actor, "emotion": CLASSES[int(emotion) - 1]}

    found = find_audio(data_folder)
    return prepare(
        corpus=CORPUS,
        data_folder=data_folder,
        save_folder=save_folder,
        options={"actors": wanted},
        describe=describe,
        make_folds=make_folds,
        protocol=protocol,
        expected={"clips": sum(COUNTS.values()), "classes": COUNTS, "actors": NUM_ACTORS},
        allow_partial=allow_partial,
        found=found,
        missing=missing_clips(found[0]),
        verify=verify,
        workers=workers,
    )


def missing_clips(files):
    """Pairs (name, reason) of what the full corpus has and these files lack.

    Actors of whom there is nothing stand as one entry, ``Actor_13``.
    """
    names = {PurePosixPath(file.path).stem for file in files}
    speakers = {name[-2:] for name in names if NAME.fullmatch(name)}
    missing = []
    for actor in (f"{number:02d}" for number in range(1, NUM_ACTORS + 1)):
        if actor not in speakers:
            missing.append((f"Actor_{actor}", "the whole actor is not on disk"))
            continue
        clips = {f"03-01-{clip}-{actor}" for clip in CLIPS}
        clips -= {"03" + name[2:] for name in names}  # other modalities hold the same speech
        missing += [(f"Actor_{actor}/{clip}", "not on disk") for clip in sorted(clips)]
    return missing


def make_folds(manifest, protocol):
    """Six folds of neighbouring actors."""
    return rotating_folds(manifest, groups_of(manifest["speaker"], NUM_FOLDS), protocol)


def main(argv=None):
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--actors", type=int, nargs="+", help="use these actors only")
    return run_command(prepare_ravdess, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
