"""Make the quickstart's corpus: synthetic emotional speech by espeak-ng.

    python recipes/quickstart/synthesize.py --save_folder OUT [--speakers 24] [--sentences 12]

24 speakers x 12 sentences x 4 emotions = 1,152 utterances, about 40 minutes of 16 kHz mono 16-bit
WAV (80 MB), made in 10 to 20 s on 2 free cores. The emotions' rate, pitch, range and intensity are
those of `prosody.py`, which cites them. Nobody ever felt anything here: a corpus to see the whole
method run on, never one to learn about people's emotions from.

OUT/spk01/angry/spk01_angry_s01.wav ...   the speech
OUT/manifest.csv                          one row an utterance (data_prep/manifest.py)
OUT/speakers.csv                          sex, voice and accent of each speaker
OUT/corpus.json                           every parameter, and their hash

The same seed gives the same bytes. A run that was interrupted goes on where it stopped.
Licences: espeak-ng, which this script calls through the `espeakng-loader` package, is GPL-3.
"""

import argparse
import csv
import hashlib
import json
import math
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import shaping
import soundfile
from espeak import Espeak, find_loader
from prosody import (
    ACCENTS,
    CUES,
    EMOTIONS,
    FEMALE_VOICES,
    MALE_VOICES,
    NEUTRAL_LEVEL,
    NEUTRAL_RANGE,
    NEUTRAL_RATE,
    SENTENCES,
    VARIATION,
    Cues,
    table,
)
from tqdm import tqdm

VERSION = 1  # raised whenever this code gives other samples for the same parameters
FACTORS = ("rate", "pitch_range", "dynamics", "formants")  # cues that multiply; the others add
SCATTER = {
    "rate": VARIATION.rate_sd,
    "pitch": VARIATION.pitch_sd,
    "pitch_range": VARIATION.range_sd,
    "level": VARIATION.level_sd,
    "dynamics": VARIATION.dynamics_sd,
    "slope": VARIATION.slope_sd,
    "brilliance": VARIATION.brilliance_sd,
}


@dataclass(frozen=True)
class Speaker:
    """A voice and its habits: offsets in the units of `prosody.Cues`, and how it shows emotion."""

    name: str
    sex: str
    voice: str
    offsets: Cues
    tract: float  # factor on all formants
    snr: float  # dB of its neutral level above the noise
    gains: dict  # (emotion, cue) -> factor on the cue's size


def draw_speaker(seed, index):
    """Speaker number `index` (from 0) of the corpus with this seed."""
    generator = np.random.default_rng([seed, 0, index])
    sex, voices = (("female", FEMALE_VOICES), ("male", MALE_VOICES))[index % 2]
    turn = index // 2
    accent = ACCENTS[(3 * turn + turn // len(ACCENTS) + index % 2) % len(ACCENTS)]
    offsets = Cues(
        rate=math.exp(generator.normal(0, VARIATION.speaker_rate_sd)),
        pitch=generator.normal(0, VARIATION.speaker_pitch_sd),
        pitch_range=math.exp(generator.normal(0, VARIATION.speaker_range_sd)),
        level=generator.normal(0, VARIATION.speaker_level_sd),
        brilliance=generator.normal(0, VARIATION.speaker_channel_sd),
    )
    gains = {
        (emotion, cue.name): max(0.0, generator.normal(1, VARIATION.cue_gain_sd))
        for emotion in EMOTIONS
        for cue in fields(Cues)
    }
    return Speaker(
        name=f"spk{index + 1:02d}",
        sex=sex,
        voice=f"{accent}+{voices[turn % len(voices)]}",
        offsets=offsets,
        tract=generator.uniform(*VARIATION.speaker_tract),
        snr=generator.uniform(*VARIATION.speaker_snr),
        gains=gains,
    )


def draw_cues(speaker, emotion, generator):
    """The cues of one utterance: emotion x strength x habit, left out or not, plus scatter."""
    strength = generator.uniform(*VARIATION.strength)
    neutral, full, drawn = CUES["neutral"], CUES[emotion], {}
    for cue in (field.name for field in fields(Cues)):
        kept = generator.uniform() >= VARIATION.cue_left_out
        share = strength * speaker.gains[emotion, cue] * kept
        scatter = generator.normal(0, SCATTER.get(cue, 0.0))
        base, goal = getattr(neutral, cue), getattr(full, cue)
        if cue in FACTORS:
            log = math.log(base) + share * math.log(goal / base) + scatter
            drawn[cue] = math.exp(log) * getattr(speaker.offsets, cue)
        elif cue in ("pitch", "level", "brilliance"):
            drawn[cue] = base + share * (goal - base) + scatter + getattr(speaker.offsets, cue)
        else:
            drawn[cue] = base + share * (goal - base) + scatter
    return Cues(**drawn)


def say(espeak, speaker, sentence, cues, generator):
    """One utterance, (S,) at 16 kHz, before the room: espeak-ng's part, then ours."""
    exclaimed = generator.uniform() < cues.exclaimed
    faster = speaker.tract * cues.formants  # how much faster it is played below: formants, pitch
    # and rate all rise by that, so pitch and rate are asked for that much lower
    samples = espeak.speak(
        SENTENCES[sentence] + ("!" if exclaimed else "."),
        speaker.voice,
        rate=round(max(80.0, NEUTRAL_RATE * cues.rate / faster)),
        pitch=round(np.clip(50 + 50 * (cues.pitch / 12 - math.log2(faster)), 0, 99)),
        pitch_range=round(np.clip(NEUTRAL_RANGE * cues.pitch_range, 0, 99)),
        word_gap=round(max(0.0, cues.word_gap)),
        seed=int(generator.integers(1, 2**31)),
    )
    samples = shaping.resample(samples, espeak.sample_rate * faster)
    samples = shaping.scale_dynamics(shaping.trim(samples), cues.dynamics)
    samples = shaping.shelve(shaping.tilt_level(samples, cues.slope), cues.brilliance)
    samples = shaping.breathe(samples, max(0.0, cues.breath), generator)
    samples = shaping.set_level(samples, NEUTRAL_LEVEL + cues.level)
    return shaping.fade(samples, max(0.0, cues.onset) / 1000)


def place(samples, speaker, generator):
    """Into the speaker's room: a little time before and after, noise, 16 bits without clipping."""
    before, after = (int(generator.uniform(0.05, 0.15) * shaping.SAMPLE_RATE) for _ in range(2))
    samples = np.pad(samples, (before, after))
    level = NEUTRAL_LEVEL + speaker.offsets.level - speaker.snr
    samples = samples + shaping.room_noise(len(samples), level, generator)
    samples *= min(1.0, 0.95 / np.abs(samples).max())
    return np.round(samples * 32767).astype(np.int16)


def utterances(speaker_name, sentences):
    """Sentence by sentence (emotion, sentence, path under the corpus), in the order they are made.

    The order is part of the corpus (see `Espeak`); with fewer sentences it is a prefix of it.
    """
    for sentence in range(sentences):
        for emotion in EMOTIONS:
            name = f"{speaker_name}_{emotion}_s{sentence + 1:02d}"
            yield emotion, sentence, Path(speaker_name, emotion, f"{name}.wav")


def is_whole(path):
    """Whether `path` is there in the length that its RIFF header announces.

    libsndfile would not tell: it takes a cut file's own length for the right one.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except FileNotFoundError:
        return False
    return head[:4] == b"RIFF" and path.stat().st_size == 8 + int.from_bytes(head[4:], "little")


def write_whole(path, samples):
    """Write `path` under another name in its folder, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    soundfile.write(str(temporary), samples, shaping.SAMPLE_RATE, subtype="PCM_16", format="WAV")
    os.replace(temporary, path)


def make_speaker(folder, seed, index, sentences):
    """Synthesise one speaker; call it once in a process (see `Espeak`)."""
    espeak, speaker = Espeak(), draw_speaker(seed, index)
    for emotion, sentence, path in utterances(speaker.name, sentences):
        generator = np.random.default_rng([seed, 1, index, sentence, EMOTIONS.index(emotion)])
        cues = draw_cues(speaker, emotion, generator)
        samples = say(espeak, speaker, sentence, cues, generator)
        if not is_whole(folder / path):
            write_whole(folder / path, place(samples, speaker, generator))


def make_speaker_apart(*arguments):
    """`make_speaker` in a fresh process of its own."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(
            ["numpy", "soundfile", "tqdm"]
        )  # imported once, not 24 times
    process = context.Process(target=make_speaker, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"speaker {arguments[2] + 1}: synthesis ended with {process.exitcode}")


def fingerprint(seed):
    """Every parameter that decides the samples, with a hash of them all."""
    parameters = {"version": VERSION, "seed": seed, **table()}
    text = json.dumps(parameters, sort_keys=True)
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), **parameters}


def claim(folder, seed, overwrite):
    """Make `folder` this corpus's own, or say that it holds another."""
    path, own = folder / "corpus.json", fingerprint(seed)
    if path.exists():
        if json.loads(path.read_text())["sha256"] == own["sha256"]:
            return
        if not overwrite:
            raise ValueError(
                f"{folder} holds a corpus made with another seed or other parameters: "
                "choose another --save_folder, or replace it with --overwrite"
            )
        for stale in folder.glob("spk*/*/spk*.wav"):
            stale.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(own, indent=1) + "\n")


def replace_text(path, text):
    """Write a text file as a whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_tables(folder, speakers, sentences):
    """manifest.csv and speakers.csv; returns the manifest's path and the hours of speech."""
    from data_prep.manifest import write_manifest

    rows, seconds = [], 0.0
    for speaker in speakers:
        for emotion, _, path in utterances(speaker.name, sentences):
            duration = soundfile.info(str(folder / path)).duration
            seconds += duration
            rows.append(
                {
                    "ID": path.stem,
                    "duration": duration,
                    "wav": f"$data_root/{path.as_posix()}",
                    "start": 0,
                    "stop": -1,
                    "speaker": speaker.name,
                    "emotion": emotion,
                    "corpus": "synthetic",
                }
            )
    write_manifest(rows, folder / "manifest.csv")
    temporary = folder / f"speakers.{os.getpid()}.part"
    with temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["speaker", "sex", "voice", "tract", "snr", *asdict(Cues())])
        for speaker in speakers:
            numbers = [speaker.tract, speaker.snr, *asdict(speaker.offsets).values()]
            writer.writerow(
                [speaker.name, speaker.sex, speaker.voice, *(f"{x:.4f}" for x in numbers)]
            )
    os.replace(temporary, folder / "speakers.csv")
    return folder / "manifest.csv", seconds / 3600


def synthesize(save_folder, speakers=24, sentences=12, seed=0, jobs=None, overwrite=False):
    """Make the corpus, or what is missing of it.

    Arguments
    ---------
    save_folder : str or Path
        Where it goes.
    speakers : int
        How many; from 25 on, voices come again with other pitch, rate, formants and habits.
    sentences : int
        How many of the 12.
    seed : int
        The same seed, the same bytes; files do not depend on `speakers` and `sentences`.
    jobs : int or None
        Processes at a time; None: one a core.
    overwrite : bool
        Replace a corpus made with other parameters instead of stopping.

    Returns
    -------
    (Path, float)
        The manifest, and hours of speech.

    Raises
    ------
    ValueError
        On impossible numbers, or if the folder holds another corpus.
    ImportError
        If espeakng-loader is missing.
    """
    if speakers < 1 or not 1 <= sentences <= len(SENTENCES):
        raise ValueError(f"speakers must be at least 1, and sentences 1 to {len(SENTENCES)}")
    find_loader()
    folder = Path(save_folder)
    claim(folder, seed, overwrite)
    voices = [draw_speaker(seed, index) for index in range(speakers)]
    todo = [
        index
        for index, speaker in enumerate(voices)
        if not all(is_whole(folder / path) for *_, path in utterances(speaker.name, sentences))
    ]
    each = sentences * len(EMOTIONS)
    bar = tqdm(total=speakers * each, initial=(speakers - len(todo)) * each, unit="utt")
    with bar, ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        runs = [pool.submit(make_speaker_apart, folder, seed, i, sentences) for i in todo]
        for run in as_completed(runs):
            run.result()
            bar.update(each)
    return write_tables(folder, voices, sentences)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save_folder", required=True)
    parser.add_argument("--speakers", type=int, default=24)
    parser.add_argument("--sentences", type=int, default=len(SENTENCES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, help="processes at a time (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="replace another corpus there")
    manifest, hours = synthesize(**vars(parser.parse_args(arguments)))
    print(f"{manifest}: {hours:.2f} hours of synthetic speech")


if __name__ == "__main__":
    main()
