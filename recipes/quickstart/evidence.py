"""What the quickstart's report shows, read from the files the stages left. Nothing is computed anew
but the masks of one utterance and the intervals of differences."""

import base64
import json
from pathlib import Path
from typing import NamedTuple

import torch
from findings import MAIN, orderings

from data_prep.manifest import read_manifest
from vesper_lobes.audio import read_audio
from vesper_lobes.lengths import n_frames
from vesper_lobes.masker import EmotionGuidedMasker, mask_noise, mask_shares
from vesper_lobes.run_metrics import pool_folds, read_metrics, read_predictions


class EvidenceError(FileNotFoundError):
    """A file of an earlier stage is missing; the text names it and the command that makes it."""


class MaskedUtterance(NamedTuple):
    """One utterance and its masks: arrays as `figures.masks` takes them, and masked shares."""

    name: str
    arrays: dict
    shares: dict


class Voice(NamedTuple):
    """One audible example: how it was acted, what the model heard, the file as a data URI."""

    emotion: str
    answers: list
    uri: str


class Evidence(NamedTuple):
    """Everything the report shows."""

    metrics: dict
    run: dict
    timings: dict
    teacher: list
    vesper: list
    heads: list  # (seed, epoch picked, history)
    record: dict  # what the pretrained encoder was made of and heard
    findings: list
    masked: MaskedUtterance
    voices: list
    classified: dict


def read_json(path):
    """A JSON file, or an error that says which command makes it."""
    if not Path(path).is_file():
        raise EvidenceError(f"{path} is missing; run `make quickstart`, which makes it.")
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_timings(path):
    """timings.json without the report's own stage, whose seconds no report can know."""
    timings = read_json(path)
    stages = [stage for stage in timings["stages"] if stage["name"] != "report"]
    return {**timings, "stages": stages, "total_seconds": sum(s["seconds"] for s in stages)}


def read_tables(folder, names):
    """Model -> its predictions, one table a seed."""
    places = {MAIN: folder, **{name: folder / "baselines" / name for name in names}}
    return {name: pool_folds(read_predictions(place)) for name, place in places.items()}


def read_heads(folder):
    """(seed, epoch picked, history) of fold 1 of every seed."""
    cells = [read_json(path) for path in sorted(folder.glob("seed*/fold1/cell.json"))]
    return [(cell["seed"], cell["best"]["epoch"], cell["history"]) for cell in cells]


def mask_utterance(name, path, seed=1986, epoch=1):
    """The masks that pretraining would draw for one file in its first epoch.

    Arguments
    ---------
    name : str
        The utterance's ID, which keys the noise.
    path : str
    seed, epoch : int
    """
    wav = read_audio(path)
    lengths = torch.tensor([len(wav)])
    masker = EmotionGuidedMasker(positions="scaled")
    frames = n_frames(len(wav))
    drawn = masker(wav[None], lengths, mask_noise(seed, epoch, [name], frames))
    arrays = {field: getattr(drawn, field)[0].numpy() for field in drawn._fields}
    for field in ("phoneme_centres", "word_centres"):
        arrays[field] = [int(centre) for centre in arrays[field] if centre >= 0]
    shares = mask_shares(drawn, torch.tensor([frames]))
    return MaskedUtterance(name, {"wav": wav.numpy(), **arrays}, shares)


def pick_voices(manifest, tables, speaker, sentence):
    """One sentence of one test voice in every emotion, with the answers of all seeds."""
    chosen = manifest[(manifest["speaker"] == speaker) & manifest["ID"].str.endswith(sentence)]
    voices = []
    for row in chosen.sort_values("emotion").itertuples():
        answers = [table.set_index("ID").at[row.ID, "prediction"] for table in tables]
        audio = base64.b64encode(Path(row.wav).read_bytes()).decode()
        voices.append(Voice(row.emotion, answers, f"data:audio/wav;base64,{audio}"))
    return voices


def gather(results):
    """The evidence of a quickstart's results folder.

    Raises
    ------
    EvidenceError
        If a stage has not left what the report needs.
    """
    results = Path(results)
    work, emotion = results / "work", results / "work" / "emotion"
    classified = read_json(work / "classified.json")
    read_json(emotion / "metrics.json")
    metrics = read_metrics(emotion / "metrics.json")
    tables = read_tables(emotion, metrics["baselines"])
    test = read_manifest(emotion / "manifest" / "folds" / "B" / "fold1_test.csv", work / "corpus")
    row = test.set_index("ID").loc[classified["ID"]]
    sentence = classified["ID"].rsplit("_", 1)[-1]
    return Evidence(
        metrics=metrics,
        run=read_json(emotion / "run.json"),
        timings=read_timings(results / "timings.json"),
        teacher=read_json(work / "teacher" / "history.json"),
        vesper=read_json(work / "pretrain" / "history.json"),
        heads=read_heads(emotion),
        record=read_json(work / "pretrain" / "export" / "pretraining.json"),
        findings=orderings(tables, metrics["classes"], metrics),
        masked=mask_utterance(classified["ID"], row["wav"]),
        voices=pick_voices(test, tables[MAIN], row["speaker"], f"_{sentence}"),
        classified=classified,
    )
