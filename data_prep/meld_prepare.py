"""MELD, the Multimodal EmotionLines Dataset: utterances of the television series Friends.

13,708 labelled utterances (9,989 train, 1,109 dev, 2,610 test) of 1,432 dialogues in seven
emotions, about 12 h; 13,706 of them have usable audio.

Get it    https://github.com/declare-lab/MELD (MELD.Raw.tar.gz, 11 GB of video).
Licence   GPL-3.0 repository; cite Poria et al., ACL 2019.
Layout    ``train_sent_emo.csv``, ``dev_sent_emo.csv``, ``test_sent_emo.csv``; video
          ``dia{D}_utt{U}.mp4`` in ``train_splits/``, ``dev_splits_complete/`` and
          ``output_repeated_splits_test/``, anywhere below data_folder. Sound is AAC, 48 kHz, 2 or 6
          channels: it is extracted with ffmpeg to 16 kHz mono wavs in ``data_folder/audio_16k/``,
          in parallel; an interrupted run goes on where it was. Wav or flac files of the same names
          in the same folders are taken as they are, and then no ffmpeg is needed.
Classes   neutral anger joy sadness surprise disgust fear.
Protocols the official split, epoch picked on its dev set, under A and B alike. Most speakers of dev
          and test are in train too (the six leads everywhere): the split cannot be made
          speaker-disjoint, the summary says so.
Quirks    Dialogue and utterance numbers repeat across splits, so IDs carry the split. The list is
          the csv's: unlabelled extra clips and ``final_videos_test*`` lie among the files. train
          dia125_utt3 is corrupt, dev dia110_utt7 missing. Some clips run over their utterance (test
          dia38_utt4 305 s, test dia220_utt0 235 s, train dia309_utt0 41 s), 14 last less than
          0.1 s: they stay in and are named under remarks in the summary.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from data_prep.folds import check_protocol, official_fold
from data_prep.headers import find_audio
from data_prep.preparation import PreparationError, command_parser, prepare, run_command

CORPUS = "MELD"
CLASSES = ("neutral", "anger", "joy", "sadness", "surprise", "disgust", "fear")
# 13,708 labels less the corrupt and the missing clip, which are both neutral
COUNTS = {
    "neutral": 4710 + 470 + 1256 - 2,
    "anger": 1109 + 153 + 345,
    "joy": 1743 + 163 + 402,
    "sadness": 683 + 111 + 208,
    "surprise": 1205 + 150 + 281,
    "disgust": 271 + 22 + 68,
    "fear": 268 + 40 + 50,
}
SPLIT_OF_FOLDER = {
    "train": "train",
    "train_splits": "train",
    "dev": "dev",
    "dev_splits_complete": "dev",
    "test": "test",
    "output_repeated_splits_test": "test",
}
NAME = re.compile(r"dia(\d+)_utt(\d+)")
VIDEO = (".mp4", ".mkv")
EXTRACTED = "audio_16k"
KNOWN_BAD = {
    "train_dia125_utt3": "corrupt in the published corpus",
    "dev_dia110_utt7": "missing in the published corpus",
}
SHORT, LONG = 0.1, 40.0  # seconds, beyond which a clip is remarked on


def prepare_meld(
    data_folder,
    save_folder,
    protocol="B",
    ffmpeg=None,
    allow_partial=False,
    verify=False,
    workers=None,
):
    """Extract MELD's audio where needed, write its manifest, folds and summary.

    Parameters
    ----------
    data_folder : str or Path
        Holds the three csv files and the clips, at any depth.
    save_folder : str or Path
    protocol : "A" or "B"
        Both use the official split and pick on its dev set.
    ffmpeg : str, optional
        The program; default the one on the PATH, or that of the package imageio-ffmpeg.
    allow_partial : bool
        Accept other counts than the published ones.
    verify : bool
        Decode and hash every file.
    workers : int, optional
        Threads that read files, and ffmpeg processes at once (default one a core).

    Returns
    -------
    Prepared
        Paths: manifest, folds (of train, dev, test), summary.

    Raises
    ------
    PreparationError, ProtocolError
    """
    check_protocol(protocol, "AB", CORPUS)
    label_files = _label_files(data_folder)
    labels = read_labels(label_files)
    failed = extract(data_folder, labels, ffmpeg, workers)
    found = find_audio(data_folder)
    on_disk = {utterance_of(file.path) for file in found[0]}
    missing = [
        (name, failed.get(name) or KNOWN_BAD.get(name) or "labelled, not on disk")
        for name in sorted(set(labels) - on_disk)
    ]

    def describe(path):
        name = utterance_of(path)
        if name is None:
            return "not a clip name of MELD in a folder of its splits"
        return labels.get(name, "no label in the csv")

    return prepare(
        corpus=CORPUS,
        data_folder=data_folder,
        save_folder=save_folder,
        options={},
        describe=describe,
        make_folds=official_fold,
        protocol=protocol,
        disjoint=None,
        expected={"clips": sum(COUNTS.values()), "classes": COUNTS},
        allow_partial=allow_partial,
        remark=_remark,
        found=found,
        missing=missing,
        inputs=label_files,
        verify=verify,
        workers=workers,
    )


def _remark(row):
    seconds = row["duration"]
    if SHORT <= seconds <= LONG:
        return ""
    return f"{'very short' if seconds < SHORT else 'over-long'}: {seconds:.3f} s"


def utterance_of(path):
    """``train_dia0_utt3`` from a relative path; None for what is no clip of a split.

    Examples
    --------
    >>> utterance_of("MELD.Raw/dev_splits_complete/dia7_utt2.mp4")
    'dev_dia7_utt2'
    >>> utterance_of("output_repeated_splits_test/final_videos_testdia0_utt0.mp4")
    """
    *folders, name = PurePosixPath(path).parts
    match = NAME.fullmatch(PurePosixPath(name).stem)
    splits = [SPLIT_OF_FOLDER[folder] for folder in folders if folder in SPLIT_OF_FOLDER]
    return f"{splits[-1]}_dia{match[1]}_utt{match[2]}" if match and splits else None


def _label_files(data_folder):
    """The csv files of train, dev and test, wherever they lie."""
    files = []
    for split in ("train", "dev", "test"):
        places = sorted(Path(data_folder).rglob(f"{split}_sent_emo.csv"))
        if not places:
            raise PreparationError(
                f"{data_folder}: no {split}_sent_emo.csv in here. Put MELD's three csv files "
                "beside its clips."
            )
        files.append(places[0])
    return files


def read_labels(label_files):
    """Utterance -> manifest fields, from the csv files of train, dev and test."""
    labels = {}
    for split, path in zip(("train", "dev", "test"), label_files, strict=True):
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                dialogue = f"{split}_dia{row['Dialogue_ID']}"
                name = f"{dialogue}_utt{row['Utterance_ID']}"
                labels[name] = {
                    "ID": name,
                    "speaker": row["Speaker"].strip(),
                    "emotion": row["Emotion"].strip().lower(),
                    "dialogue": dialogue,
                    "split": split,
                }
    return labels


def extract(data_folder, names, ffmpeg=None, workers=None):
    """Turn the videos of these utterances into 16 kHz mono wavs, several at once.

    Wavs that are there and newer than their video are left alone, so that an interrupted run goes
    on; every wav appears under its name only when whole.

    Returns
    -------
    dict
        Utterance -> ffmpeg's complaint, for the videos that it could not read.

    Raises
    ------
    PreparationError
        There are videos and no ffmpeg.
    """
    jobs = _jobs(Path(data_folder), names)
    if not jobs:
        return {}
    program = ffmpeg or find_ffmpeg()
    if not program or not shutil.which(program):
        raise PreparationError(
            f"{len(jobs)} clips of MELD are videos, and ffmpeg is not installed. Install it "
            "(`apt install ffmpeg`, `conda install ffmpeg` or `pip install imageio-ffmpeg`), name "
            "it with --ffmpeg, or put wavs of the same names in the folders of the splits."
        )
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        runs = pool.map(lambda job: _extract_one(program, *job[1:]), jobs)
        complaints = list(tqdm(runs, total=len(jobs), desc="ffmpeg", unit=" clips"))
    return {job[0]: text for job, text in zip(jobs, complaints, strict=True) if text}


def _jobs(root, names):
    """(utterance, video, wav to make) of what has no sound file yet."""
    videos, left_out = find_audio(root, VIDEO)
    ready = {}
    for file in find_audio(root)[0]:
        ready[utterance_of(file.path)] = file
    jobs = {}
    for video in videos:
        name = utterance_of(video.path)
        if name not in names or name in jobs:
            continue
        split, _, clip = name.partition("_")
        wav = root / EXTRACTED / split / f"{clip}.wav"
        sound = ready.get(name)
        ours = sound and sound.path.startswith(f"{EXTRACTED}/")
        if not sound or (ours and sound.mtime_ns < video.mtime_ns):
            jobs[name] = (name, root / video.path, wav)
    return list(jobs.values())


def find_ffmpeg():
    """The ffmpeg program on the PATH, or the one that the package imageio-ffmpeg brings."""
    if program := shutil.which("ffmpeg"):
        return program
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    return imageio_ffmpeg.get_ffmpeg_exe()


def _extract_one(program, video, wav):
    """Run ffmpeg on one video; the last line of its complaint, or the empty string."""
    try:
        wav.parent.mkdir(parents=True, exist_ok=True)
        temporary = wav.with_suffix(".part")
        sound = ["-map", "0:a:0", "-ac", "1", "-ar", "16000", "-c:a", "pcm_s16le"]
        quiet = ["-nostdin", "-v", "error", "-y", "-threads", "1"]
        done = subprocess.run(
            [program, *quiet, "-i", str(video), *sound, "-f", "wav", str(temporary)],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode == 0 and temporary.stat().st_size > 44:
            os.replace(temporary, wav)
            return ""
        temporary.unlink(missing_ok=True)
    except OSError as error:
        raise PreparationError(
            f"{wav}: cannot be written ({error.strerror}). If the corpus is read-only, make a "
            "folder of links to its files elsewhere and give that as data_folder."
        ) from None
    lines = [line for line in done.stderr.strip().splitlines() if line]
    complaint = lines[-1].replace(str(video), video.name) if lines else "no sound in it"
    return f"ffmpeg: {complaint}"


def main(argv=None):
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--ffmpeg", help="the program, where it is not on the PATH")
    return run_command(prepare_meld, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
