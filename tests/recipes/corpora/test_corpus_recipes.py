"""IEMOCAP, MELD, CREMA-D and RAVDESS: generated trees through preparer and recipe, end to end."""

import csv
import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from corpus_trees import (
    MELD_FOLDERS,
    iemocap_utterances,
    meld_utterances,
    pitch_of,
    plant_iemocap,
    plant_meld_labels,
    ravdess_names,
    sounding,
    stratified,
)
from recipe_runs import RECIPES, launch, save_tiny_encoder

from data_prep.cremad_prepare import CLASSES as CREMAD
from data_prep.cremad_prepare import REMARKS
from data_prep.folds import ProtocolError
from data_prep.meld_prepare import CLASSES as MELD
from data_prep.meld_prepare import SPLIT_OF_FOLDER, find_ffmpeg
from data_prep.ravdess_prepare import CLASSES as RAVDESS
from vesper_lobes.run_metrics import read_metrics

IEMOCAP = ("ang", "neu", "hap", "sad")
QUICK = "--baselines [mfcc_ridge] --head_seeds 1 --ssl_saw_test_audio False --export null".split()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("student"))


def iemocap_tree(root, utterances):
    """Sound for (name, label, seconds): pitch tells the label."""
    utterances = list(utterances)
    labels = {name: "hap" if label == "exc" else label for name, label, _ in utterances}
    pitches = pitch_of([*IEMOCAP, "xxx", "oth", "fru"])
    plant_iemocap(root, utterances, sounding(lambda path: pitches.get(labels.get(path.stem), 100)))
    return root


def meld_tree(root, utterances, seconds=lambda utterance: 0.4):
    """Ready wavs and the csv files for (split, dialogue, utterance, speaker, emotion)."""
    utterances = list(utterances)
    plant_meld_labels(root, utterances)
    emotions = {(s, d, u): emotion for s, d, u, _, emotion in utterances}
    pitches = pitch_of(MELD)

    def pitch(path):
        dialogue, utterance = (int(n) for n in re.findall(r"\d+", path.stem))
        return pitches[emotions[SPLIT_OF_FOLDER[path.parent.name], dialogue, utterance]]

    write = sounding(pitch)
    for key in emotions:
        write(root / MELD_FOLDERS[key[0]] / f"dia{key[1]}_utt{key[2]}.wav", seconds(key))
    return root


def cremad_tree(root, clips):
    """AudioWAV from (name, seconds)."""
    pitches = pitch_of(CREMAD)
    write = sounding(lambda path: pitches[path.stem.split("_")[2]])
    for name, seconds in clips:
        write(root / "AudioWAV" / f"{name}.wav", seconds)
    return root


def ravdess_tree(root, names):
    pitches = pitch_of(RAVDESS)
    write = sounding(lambda path: pitches[RAVDESS[int(path.stem.split("-")[2]) - 1]])
    for name in names:
        write(root / f"Actor_{name[-2:]}" / f"{name}.wav", 0.4)
    return root


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A small tree of every corpus: name -> folder."""
    root = tmp_path_factory.mktemp("corpora")
    short = ((name, label, 0.4) for name, label, _ in iemocap_utterances())
    actors = [1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1014]
    clips = [f"{actor}_{s}_{e}_XX" for actor in actors for e in CREMAD for s in ("DFA", "TIE")]
    return {
        "IEMOCAP": iemocap_tree(root / "iemocap", short),
        "MELD": meld_tree(root / "meld", meld_utterances(MELD, dialogues=4)),
        "CREMA-D": cremad_tree(root / "cremad", ((name, 0.4) for name in clips)),
        "RAVDESS": ravdess_tree(
            root / "ravdess", [n for n in ravdess_names(range(1, 7)) if n[9:14] == "01-01"]
        ),
    }


@pytest.fixture(scope="module")
def run(trees, encoder):
    """``run(corpus, output, *options)``: the recipe with vesper_mini.yaml; its metrics."""

    def start(corpus, output, *options, config="vesper_mini", tree=None, **more):
        where = ("--data_folder", tree or trees[corpus], "--output_folder", output)
        options = (*where, "--encoder", encoder, *QUICK, *options)
        return launch(corpus, config, *options, **more)

    return start


def sets_of(output, protocol, fold, column):
    """train, dev and test of a fold: the values of a column, as sets."""
    folder = output / "manifest" / "folds" / protocol
    return [
        set(pd.read_csv(folder / f"fold{fold}_{name}.csv", dtype=str)[column])
        for name in ("train", "dev", "test")
    ]


@pytest.mark.parametrize(("protocol", "metric"), [("A", "WA+UA"), ("B", "WA"), ("C", "WA")])
def test_iemocap(run, tmp_path, protocol, metric):
    metrics = run("IEMOCAP", tmp_path, "--protocol", protocol)
    assert metrics["classes"] == list(IEMOCAP) and metrics["n"] == 100
    assert metrics["per_class"]["hap"]["support"] == 40  # exc is hap
    assert [fold["fold"] for fold in metrics["folds"]] == [1, 2, 3, 4, 5]
    assert all(fold["selected_on_test"] == (protocol == "A") for fold in metrics["folds"])
    assert json.loads((tmp_path / "run.json").read_text())["selection_metric"] == metric
    train, dev, test = sets_of(tmp_path, protocol, 1, "session")
    assert test == {"1"}
    assert dev == {"A": {"1"}, "B": {"2"}, "C": {"2", "3", "4", "5"}}[protocol]
    assert "1" not in train and ("2" in train) == (protocol != "B")


@pytest.mark.parametrize("protocol", ["A", "B"])
def test_meld(run, tmp_path, protocol):
    metrics = run("MELD", tmp_path, "--protocol", protocol)
    assert metrics["classes"] == list(MELD) and metrics["n"] == 28
    assert len(metrics["folds"]) == 1 and not metrics["folds"][0]["selected_on_test"]
    assert json.loads((tmp_path / "run.json").read_text())["selection_metric"] == "WF1"
    table = pd.read_csv(tmp_path / "seed1" / "fold1" / "predictions.csv")
    assert sorted(table["dialogue"].unique()) == [f"test_dia{d}" for d in range(4)]
    low, high = metrics["ci"]["UA"]  # over dialogues, which hold each class once
    assert low <= metrics["pooled"]["UA"] <= high


@pytest.mark.parametrize("protocol", ["A", "B"])
def test_cremad(run, tmp_path, protocol):
    metrics = run("CREMA-D", tmp_path, "--protocol", protocol)
    assert metrics["classes"] == list(CREMAD)
    everyone = {"1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1010", "1011"}
    train, _, test = sets_of(tmp_path, protocol, 1, "speaker")
    if protocol == "A":
        assert len(metrics["folds"]) == 1 and metrics["folds"][0]["selected_on_test"]
        assert metrics["n"] == 24 and train & test  # 4 of the 22 clips of every emotion
    else:
        doubtful = {"1006_TIE_HAP_XX", "1006_TIE_NEU_XX"} & set(REMARKS)
        assert len(metrics["folds"]) == 5 and metrics["n"] == 132 - len(doubtful) == 130
        assert not train & test and everyone < train | test | {"1014"} | everyone
        assert not any(fold["selected_on_test"] for fold in metrics["folds"])


def test_ravdess(run, tmp_path):
    metrics = run("RAVDESS", tmp_path)
    assert metrics["classes"] == list(RAVDESS) and len(metrics["folds"]) == 6
    assert metrics["n"] == 6 * 16 - 0 and metrics["chance"]["UA"] == 1 / 8
    some = run("RAVDESS", tmp_path / "four", "--actors", "[1, 2, 3, 4, 5, 6]")
    assert some["pooled"] == metrics["pooled"]


def test_the_papers_optimizer_and_a_hub_encoders_yaml(run, tmp_path):
    metrics = run("MELD", tmp_path, config="wavlm_base")
    assert metrics["n"] == 28 and not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("config", ["shiftformer", "speechformer"])
def test_heads_on_frames_train_as_their_papers_say(run, tmp_path, config):
    """MELD for its one fold; frames come from loader workers."""
    metrics = run("MELD", tmp_path, "--warmup_epochs", "0", config=config, epochs=1)
    assert metrics["n"] == 28 and len(list((tmp_path / "states").glob("frames-*"))) == 1


@pytest.mark.parametrize("corpus", ["MELD", "CREMA-D", "RAVDESS"])
def test_protocol_c_is_iemocaps_alone(run, tmp_path, corpus):
    with pytest.raises(ProtocolError, match=f"{corpus} has no protocol 'C'.*IEMOCAP only"):
        run(corpus, tmp_path, "--protocol", "C")


def test_a_partial_corpus_is_refused_unless_allowed(run, tmp_path):
    with pytest.raises(ValueError, match="1440"):
        run("RAVDESS", tmp_path, allow_partial=False)


@pytest.mark.parametrize("corpus", ["IEMOCAP", "MELD", "CREMA-D", "RAVDESS"])
def test_train_py_is_thin_and_says_its_own_name(corpus):
    text = (RECIPES / corpus / "emotion" / "train.py").read_text()
    assert len(text.splitlines()) < 30 and corpus in text and "run_recipe(" in text


@pytest.mark.slow
def test_the_command_of_the_readme(trees, encoder, tmp_path):
    recipe = RECIPES / "CREMA-D" / "emotion"
    command = [sys.executable, "train.py", "hparams/vesper_mini.yaml", "--head_seeds", "1"]
    command += ["--data_folder", str(trees["CREMA-D"]), "--encoder", str(encoder)]
    command += ["--output_folder", str(tmp_path), "--allow_partial", "True", "--protocol", "A"]
    command += ["--number_of_epochs", "1", "--baselines", "[]"]
    env = {**os.environ, "PYTHONPATH": str(RECIPES.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=recipe, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_metrics(tmp_path / "metrics.json")["protocol"] == "A"


@pytest.mark.slow
def test_some_300_real_names_of_iemocap(test_data, run, tmp_path):
    with open(test_data / "meta" / "iemocap" / "iemocap_5531.csv") as file:
        seconds = {row["name"]: float(row["duration"]) for row in csv.DictReader(file)}
    with open(test_data / "meta" / "iemocap" / "iemocap_all_10039.csv") as file:
        rows = [(row["name"], row["label"]) for row in csv.DictReader(file)]
    some = stratified(rows, lambda row: f"{row[1]} {row[0][4]}", 300)
    short = ((name, label, min(seconds.get(name, 1.0), 7.0)) for name, label in some)
    tree = iemocap_tree(tmp_path / "data", short)
    for protocol in "AB":
        metrics = run("IEMOCAP", tmp_path / protocol, "--protocol", protocol, tree=tree, epochs=5)
        assert len(metrics["folds"]) == 5 and metrics["n"] > 100
        assert metrics["baselines"]["mfcc_ridge"]["UA"] > 0.8  # pitch tells the labels apart


@pytest.mark.slow
def test_some_300_real_names_of_meld_with_its_traps(test_data, run, tmp_path):
    lengths = {}
    with open(test_data / "meta" / "meld" / "meld_lengths.csv") as file:
        for row in csv.DictReader(file):
            key = row["split"], int(row["dialogue"]), int(row["utterance"])
            lengths[key] = float(row["mp4_length_emobox"] or 0)
    rows = []
    for split in MELD_FOLDERS:
        path = test_data / "meta" / "meld" / f"{split}_sent_emo.csv"
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                key = split, int(row["Dialogue_ID"]), int(row["Utterance_ID"])
                rows.append((*key, row["Speaker"], row["Emotion"]))
    some = list(stratified(rows, lambda row: f"{row[0]} {row[4]}", 300))
    shortest = min(
        (row for row in rows if lengths.get(row[:3], 0) > 0), key=lambda r: lengths[r[:3]]
    )
    some = list(dict.fromkeys([*some, shortest]))
    missing = ("dev", 110, 7)
    some += [row for row in rows if row[:3] == missing and row not in some]
    tree = meld_tree(tmp_path / "data", some, lambda key: min(lengths.get(key) or 1.0, 6.0))
    (tree / MELD_FOLDERS["dev"] / "dia110_utt7.wav").unlink()
    for protocol in "AB":
        metrics = run("MELD", tmp_path / protocol, "--protocol", protocol, tree=tree, epochs=5)
        assert metrics["n"] == sum(row[0] == "test" for row in some)
        summary = json.loads((tmp_path / protocol / "manifest" / "summary.json").read_text())
        assert "dev_dia110_utt7" in {entry["name"] for entry in summary["left_out"]}
        assert any(text.startswith("very short") for text in summary["remarks"].values())


@pytest.mark.slow
def test_meld_from_videos(run, tmp_path):
    """50-odd mp4 clips of 2 and 6 channels, one of them corrupt: sound first, then the recipe."""
    ffmpeg = find_ffmpeg()
    if not ffmpeg:
        pytest.skip("no ffmpeg: pip install imageio-ffmpeg")
    tree = meld_tree(tmp_path / "MELD.Raw", meld_utterances(MELD, dialogues=3))
    wavs = sorted(tree.rglob("*.wav"))
    for number, wav in enumerate(wavs):
        sound = ["-i", str(wav), "-f", "lavfi", "-i", "color=size=16x16:duration=0.4"]
        form = ["-c:a", "aac", "-ar", "48000", "-ac", str(2 + 4 * (number % 2)), "-shortest"]
        video = str(wav.with_suffix(".mp4"))
        subprocess.run([ffmpeg, "-v", "error", "-y", *sound, *form, video], check=True)
        wav.unlink()
    corrupt = tree / MELD_FOLDERS["train"] / "dia2_utt3.mp4"
    corrupt.write_bytes(corrupt.read_bytes()[:200])
    metrics = run("MELD", tmp_path / "B", tree=tree)
    assert len(wavs) == 63 and metrics["n"] == 21
    left_out = json.loads((tmp_path / "B" / "manifest" / "summary.json").read_text())["left_out"]
    (entry,) = left_out
    assert entry["name"] == "train_dia2_utt3" and entry["reason"].startswith("ffmpeg: ")


@pytest.mark.slow
def test_some_300_real_names_of_cremad(test_data, run, tmp_path):
    with open(test_data / "meta" / "cremad" / "cremad_lfs.csv") as file:
        clips = {
            row["name"].removesuffix(".wav"): float(row["duration"]) for row in csv.DictReader(file)
        }
    some = list(stratified(clips, lambda name: f"{name[:4]} {name[9:12]}", 546))
    some += [name for name in REMARKS if name not in some]
    tree = cremad_tree(tmp_path / "data", ((name, min(clips[name], 3.5)) for name in some))
    for protocol in "AB":
        metrics = run("CREMA-D", tmp_path / protocol, "--protocol", protocol, tree=tree, epochs=5)
        left = len(REMARKS) if protocol == "B" else 0
        assert protocol == "A" or metrics["n"] == len(some) - left
        assert metrics["baselines"]["mfcc_ridge"]["UA"] > 0.8


@pytest.mark.slow
def test_real_ravdess_with_an_untrained_encoder(test_data, run, tmp_path):
    data = test_data / "ravdess"
    if not data.is_dir():
        pytest.skip("VESPER_TEST_DATA holds no ravdess")
    metrics = run("RAVDESS", tmp_path, tree=data)
    assert metrics["n"] == 716 and len(metrics["folds"]) == 6
    assert 0.25 < metrics["baselines"]["mfcc_ridge"]["UA"] < 0.45
