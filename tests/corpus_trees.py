"""Small corpora on disk, with real names and invented sound or none, for tests of preparers."""

import struct
import zlib

import numpy as np
import soundfile as sf

GIT_LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:c6f94b2592487c7556bd86df7df6e8f4420d1b9c11414aeec9d8e5e640b51495\n"
    "size 72862\n"
)


def write_tone(path, seconds=0.3, rate=16000, channels=1, seed=0, **options):
    """A file with sound: a tone in noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=(len(time), channels))
    sound = 0.2 * np.sin(2 * np.pi * 220 * time)[:, None] + 0.01 * noise
    sf.write(path, sound, rate, **options)
    return path


def write_sparse_wav(path, seconds=0.3, rate=16000):
    """A wav of the given length whose samples take no space on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = round(seconds * rate) * 2
    with open(path, "wb") as file:
        file.write(wav_header(size, rate))
        file.truncate(44 + size)
    return path


def wav_header(data_bytes, rate=16000, channels=1):
    """The 44 bytes in front of 16-bit PCM."""
    block = 2 * channels
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + data_bytes & 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, channels),
        *(rate, rate * block, block, 16, b"data", data_bytes),
    )


def sounding(pitch):
    """A function (path, seconds) that writes a noisy tone; `pitch` (path) -> Hz.

    The noise depends on the file's name alone, so no two files are alike.
    """

    def write(path, seconds=0.3):
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * 16000)) / 16000
        random = np.random.default_rng(zlib.crc32(path.stem.encode()))
        sound = 0.3 * np.sin(2 * np.pi * pitch(path) * random.uniform(0.95, 1.05) * time)
        sf.write(path, sound + 0.02 * random.normal(size=len(time)), 16000)
        return path

    return write


def pitch_of(classes):
    """Class -> Hz, far enough apart for a head to tell them."""
    return {name: 110 * 1.35**i for i, name in enumerate(classes)}


def emodb_names():
    """535 names of the real form with the real counts by letter, spread over the ten speakers."""
    counts = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "N": 79, "T": 62}
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    for letter, count in counts.items():
        for i in range(count):
            turn = i // len(speakers)
            text = f"{'ab'[turn % 2]}{turn // 2 + 1:02d}"
            yield f"{speakers[i % len(speakers)]}{text}{letter}{'abcd'[turn % 4]}"


def ravdess_names(actors=range(1, 25)):
    """The 60 names of each actor's speech clips."""
    for actor in actors:
        for emotion in range(1, 9):
            for intensity in (1, 2) if emotion > 1 else (1,):
                for statement in (1, 2):
                    for repetition in (1, 2):
                        codes = (3, 1, emotion, intensity, statement, repetition, actor)
                        yield "-".join(f"{code:02d}" for code in codes)


def plant_iemocap(root, utterances, write=write_sparse_wav):
    """IEMOCAP's tree from (name, label, seconds), with all that lies beside the labels.

    `write` makes a wav from (path, seconds); :func:`sounding` gives one with sound.
    """
    dialogues = {}
    for name, label, seconds in utterances:
        dialogue = name.rpartition("_")[0]
        session = root / f"Session{name[4]}"
        write(session / "sentences" / "wav" / dialogue / f"{name}.wav", seconds)
        entry = f"[6.2901 - 8.2357]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]\n"
        votes = "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom\t;\t()\n\n"
        dialogues.setdefault((session, dialogue), []).append(entry + votes)
    for (session, dialogue), entries in dialogues.items():
        folder = session / "dialog" / "EmoEvaluation"
        (folder / "Categorical").mkdir(parents=True, exist_ok=True)
        head = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        (folder / f"{dialogue}.txt").write_text(head + "".join(entries))
        (folder / f"._{dialogue}.txt").write_bytes(b"\x00\x05\x16\x07\xff\xfe" + bytes(60))
        wrong = entries[0].replace("\tneu\t", "\tang\t")
        (folder / "Categorical" / f"{dialogue}_cat.txt").write_text(wrong)
        write_sparse_wav(session / "dialog" / "wav" / f"{dialogue}.wav", 60)


def iemocap_utterances():
    """A few invented utterances of every session, label and speaker."""
    labels = ("ang", "neu", "hap", "exc", "sad", "xxx", "oth", "fru")
    for session in range(1, 6):
        for wearer in "FM":
            for number, label in enumerate(labels):
                for who in "FM":
                    yield f"Ses0{session}{wearer}_impro01_{who}{number:03d}", label, 1.5


def cremad_names():
    """The 82 names of each of 91 actors: the real form, levels and class shares."""
    sentences = ("DFA", "ITS", "ITH", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI", "IOM")
    for actor in range(1001, 1092):
        yield f"{actor}_IEO_NEU_XX"
        for emotion in ("ANG", "DIS", "FEA", "HAP", "SAD"):
            yield from (f"{actor}_IEO_{emotion}_{level}" for level in ("LO", "MD", "HI"))
            yield from (f"{actor}_{sentence}_{emotion}_XX" for sentence in sentences)
        yield from (f"{actor}_{sentence}_NEU_XX" for sentence in sentences)


def stratified(utterances, label, number):
    """About `number` of some utterances, evenly from every `label` (utterance) -> text."""
    groups = {}
    for utterance in utterances:
        groups.setdefault(label(utterance), []).append(utterance)
    each = max(1, number // len(groups))
    for _, members in sorted(groups.items()):
        yield from members[:: max(1, len(members) // each)][:each]


MELD_FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
MELD_HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,"
    "Season,Episode,StartTime,EndTime\r\n"
)


def plant_meld_labels(root, utterances):
    """MELD's three csv files from (split, dialogue, utterance, speaker, emotion)."""
    root.mkdir(parents=True, exist_ok=True)
    for split in MELD_FOLDERS:
        rows = [
            f'{i},"It’s “fine”, really.",{speaker},{emotion},x,{d},{u},1,1,"0,0","0,1"\r\n'
            for i, (s, d, u, speaker, emotion) in enumerate(utterances)
            if s == split
        ]
        text = MELD_HEADER + "".join(rows)
        (root / f"{split}_sent_emo.csv").write_bytes(text.encode("utf-8"))


def meld_utterances(emotions, dialogues=6):
    """In every split some dialogues in which six speakers go through all emotions."""
    for split in MELD_FOLDERS:
        for dialogue in range(dialogues):
            for number, emotion in enumerate(emotions):
                yield split, dialogue, number, f"Speaker{(dialogue + number) % 6}", emotion
