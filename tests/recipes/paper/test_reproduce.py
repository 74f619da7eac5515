"""The one command: plan, run, interruption, report; on invented corpora, everything tiny."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests"))
from corpus_trees import ravdess_names, sounding, stratified  # noqa: E402

COMMAND = [sys.executable, str(ROOT / "recipes/paper/reproduce.py")]


def reproduce(*options, timeout=600):
    """The command in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, options)], capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def ravdess(tmp_path):
    """A few clips of twelve actors."""
    root = tmp_path / "ravdess"
    names = stratified(ravdess_names(range(1, 13)), lambda name: name[6:8] + name[-2:], 96)
    write = sounding(lambda path: 100 + 40 * int(path.stem[6:8]))
    for name in names:
        path = root / f"Actor_{name[-2:]}" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, 0.4)
    return root


@pytest.fixture
def tiny(tmp_path):
    """mini.yaml with one corpus, a step each and noise to pretrain on."""
    speech = tmp_path / "speech"
    speech.mkdir()
    for number in range(40):
        noise = np.random.default_rng(number).normal(0, 0.1, 12000)
        soundfile.write(speech / f"n{number:02d}.wav", noise, 16000)
    settings = yaml.safe_load((ROOT / "recipes/paper/mini.yaml").read_text())
    settings |= {"corpora": ["RAVDESS"], "head_seeds": [1, 2], "prepare": {}, "figures": {}}
    settings["needs"] = {"ravdess": "", "noise": ""}
    settings["speech"] = "--data_folder {noise} --crop_seconds 0.7"
    small = " --num_steps 1 --cluster_frames 500"
    for teacher in settings["teachers"].values():
        teacher["command"] = teacher["command"].replace(" --num_steps 2400", small)
        teacher["minutes"] = 0.1
    for model in settings["pretrain"]["models"].values():
        words = model["options"].split()
        words[words.index("--num_steps") + 1] = "1"
        model |= {"options": " ".join(words), "minutes": 0.1}
    settings["pretrain"]["seeds"] = {}
    settings["emotion"]["command"] += " --number_of_epochs 1"
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_the_plan_names_what_is_missing_and_how_to_get_it():
    status, text = reproduce("--size", "full", "--dry-run", "--no-steps")
    assert (
        status == 1 and "--data lssed=DIR" in text and "hf download microsoft/wavlm-large" in text
    )
    assert "recipes/LSSED/pretrain$ python train.py hparams/vesper4.yaml" in text
    assert "GB of GPU memory" in text and "h of commands" in text
    status, _ = reproduce("--size", "full", "--dry-run", "--no-steps", "--allow-missing")
    assert status == 0


def test_wrong_words_are_refused():
    for options in (["--tables", "IX"], ["--size", "huge"], ["--data", "x"], ["--data", "x=/tmp"]):
        status, text = reproduce(*options)
        assert status == 2 and "reproduce: error" in text, options


def test_it_does_not_start_without_its_inputs(tmp_path):
    status, text = reproduce("--size", "mini", "--work", tmp_path / "w", "--out", tmp_path / "out")
    assert status == 2 and "Missing inputs" in text and not (tmp_path / "w").exists()


@pytest.mark.slow
def test_one_table_from_nothing_to_the_report(tmp_path, tiny, ravdess):
    options = ["--size", tiny, "--tables", "VII", "--work", tmp_path / "w", "--jobs", 2]
    options += ["--out", tmp_path / "out", "--data", f"ravdess={ravdess}"]
    options += [f"noise={tmp_path / 'speech'}"]
    status, text = reproduce(*options)
    assert status == 0, text
    rows = json.loads((tmp_path / "w/rows.json").read_text())["rows"]
    assert len(rows) == 4 * 2 * 2 and all(row["done"] for row in rows)
    page = (tmp_path / "out/report.html").read_text()
    assert "Table VII" in page and (tmp_path / "out/report.md").is_file()
    before = (tmp_path / "w/state.json").stat().st_mtime
    finished = json.loads((tmp_path / "w/state.json").read_text())["cells"]
    status, text = reproduce(*options)
    assert status == 0 and (tmp_path / "w/state.json").stat().st_mtime >= before
    again = json.loads((tmp_path / "w/state.json").read_text())["cells"]
    assert again == finished, "nothing was run twice"


@pytest.mark.slow
def test_full_size_takes_one_step_everywhere():
    """Every distinct configuration of the paper at full size, random weights, batches of two."""
    status, text = reproduce("--size", "full", "--dry-run", "--allow-missing", timeout=2400)
    assert status == 0, text[-3000:]
    assert "all well" in text
