"""LSSED, a large-scale English speech-emotion corpus (pretraining; its labels are not used).

147,025 utterances of 820 speakers, about 206 h, 5.05 s on average, from in-the-wild interviews.

Get it    on request with a signed agreement, https://github.com/tobefans/LSSED; cite Fan et al.,
          "LSSED: a large-scale dataset and benchmark for speech emotion recognition", ICASSP 2021.
Licence   academic, non-commercial, no redistribution.
Layout    the wav edition: ``wav_all/<name>.wav`` and one csv with the columns ``name`` and
          ``faces`` (the emotion), such as ``metadata_english_all.csv``.
Quirks    The public grant is features and labels, **not waveforms**: most users have no LSSED
          audio. Pretrain on any other speech then: `data_prep/folder_prepare.py` writes the same
          manifest from any folder. The speakers are not in the published csv: the column stays
          empty.
"""

import csv
import sys
from pathlib import Path, PurePosixPath

from data_prep.headers import find_audio
from data_prep.preparation import PreparationError, command_parser, prepare, run_command

CORPUS = "LSSED"
CLIPS = 147_025
CURE = (
    "LSSED is granted as features and labels, seldom as audio. Any speech will do for "
    "pretraining: python data_prep/folder_prepare.py --data_folder ANY_SPEECH --save_folder OUT"
)


def prepare_lssed(
    data_folder,
    save_folder,
    metadata=None,
    allow_partial=False,
    verify=False,
    workers=None,
):
    """Write LSSED's manifest and summary; there are no folds, pretraining takes all of it.

    Parameters
    ----------
    data_folder : str or Path
        Holds ``wav_all/`` and the csv.
    save_folder : str or Path
    metadata : str or Path, optional
        The csv; by default the only one in `data_folder` with a column ``name``.
    allow_partial : bool
        Accept other than 147,025 clips.
    verify : bool
        Decode and hash every file.
    workers : int, optional
        Threads that read files.

    Returns
    -------
    Prepared
        Paths: manifest, folds (none), summary.

    Raises
    ------
    PreparationError
        Also when there is no audio: it names the way that needs no LSSED.
    """
    data_folder = Path(data_folder)
    metadata = Path(metadata) if metadata else _find_metadata(data_folder)
    names = _names(metadata)
    if not (data_folder / "wav_all").is_dir():
        raise PreparationError(f"{data_folder}: no folder wav_all. {CURE}")
    found = find_audio(data_folder, (".wav",))
    on_disk = {PurePosixPath(file.path).stem for file in found[0]}

    def describe(path):
        folder, _, name = path.rpartition("/")
        if folder != "wav_all":
            return "not in wav_all"
        stem = name[: -len(".wav")]
        return {"ID": stem} if stem in names else "not in the csv"

    return prepare(
        corpus=CORPUS,
        data_folder=data_folder,
        save_folder=save_folder,
        options={"metadata": metadata.name},
        describe=describe,
        expected={"clips": CLIPS},
        allow_partial=allow_partial,
        inputs=[metadata],
        found=found,
        missing=[(name, "in the csv, not on disk") for name in sorted(names - on_disk)],
        verify=verify,
        workers=workers,
    )


def _find_metadata(data_folder):
    """The only csv with a column `name`."""
    csvs = sorted(path for path in data_folder.glob("*.csv") if not path.name.startswith("._"))
    named = [path for path in csvs if "name" in _header(path)]
    if len(named) == 1:
        return named[0]
    if named:
        raise PreparationError(
            f"{data_folder}: several csv files have a column name: "
            f"{', '.join(path.name for path in named)}. Choose one: --metadata FILE."
        )
    raise PreparationError(f"{data_folder}: no csv with the columns name and faces. {CURE}")


def _header(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def _names(metadata):
    """The set of utterance names in the csv."""
    if "name" not in _header(metadata):
        raise PreparationError(f"{metadata}:1: no column name. Give LSSED's own csv.")
    with open(metadata, encoding="utf-8-sig", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    # the published reader appends .wav to the name; some csv exports hold it already
    return {name[:-4] if name.endswith(".wav") else name for name in names if name}


def main(argv=None):
    """The command."""
    parser = command_parser(__doc__, protocols="")
    parser.add_argument("--metadata", help="the csv, where there are several")
    return run_command(prepare_lssed, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
