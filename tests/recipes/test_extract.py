"""Extraction gives the same states from a manifest and from shards, by one process or by two."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from recipe_runs import save_tiny_encoder

from data_prep.folder_prepare import prepare_folder
from data_prep.speech_sources import read_speech
from data_prep.write_shards import write_shards

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("extract", ROOT / "recipes" / "extract.py")
command = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(command)
extract, main, share_of = command.extract, command.main, command.share_of


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Folder with nine clips of 0.5 to 1.3 s, their manifest, shards of them, and an encoder."""
    folder, random = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    for k in range(9):
        wave = 0.1 * random.standard_normal(8000 + 1600 * k)
        soundfile.write(folder / f"clip{k}.wav", wave, 16000)
    prepare_folder(folder, folder / "prep")
    manifest = str(folder / "prep/manifest.csv")
    write_shards(manifest, str(folder), folder / "shards", shard_mb=0.1, format="copy")
    save_tiny_encoder(folder / "encoder")
    return folder


def rows_of(speech, source):
    if source == "shards":
        return read_speech(None, shards=speech / "shards")
    return read_speech(None, speech, speech / "prep/manifest.csv")


def files(folder):
    return sorted(path.name for path in folder.rglob("*.npy"))


@pytest.mark.parametrize("source", ["manifest", "shards"])
def test_two_processes_equal_one(speech, tmp_path, source):
    rows, options = rows_of(speech, source), dict(progressbar=False, batch_seconds=3.0)
    parts = [
        extract(speech / "encoder", rows, tmp_path / "two", rank, 2, **options) for rank in (0, 1)
    ]
    assert sorted(name for part in parts for name in part.keys) == sorted(rows["ID"])
    one = extract(speech / "encoder", rows, tmp_path / "one", **options)
    before = files(tmp_path / "two")
    both = extract(speech / "encoder", rows, tmp_path / "two", **options)  # nothing is left to do
    assert files(tmp_path / "two") == before
    states = one.states(list(rows["ID"]))
    assert states.shape == (9, 3, 32)
    torch.testing.assert_close(both.states(list(rows["ID"])), states, rtol=1e-5, atol=1e-5)


def test_shards_and_files_share_a_cache(speech, tmp_path):
    """Keys are hashes of audio: what was extracted from files is not extracted from shards."""
    for source in ("manifest", "shards"):
        extract(speech / "encoder", rows_of(speech, source), tmp_path, progressbar=False)
    assert len(files(tmp_path)) == 1


def test_shares_are_of_like_lengths(speech):
    rows = rows_of(speech, "manifest")
    shares = [share_of(rows, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    sums = [share["duration"].sum() for share in shares]
    assert max(sums) - min(sums) <= rows["duration"].max() - rows["duration"].min()


def test_mistakes_are_told(speech, tmp_path, capsys):
    arguments = ["--encoder", str(speech / "encoder"), "--save_folder", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(arguments)
    assert main([*arguments, "--shards", str(tmp_path)]) == 1
    assert "not finished" in capsys.readouterr().err


@pytest.mark.slow
def test_torchrun(speech, tmp_path):
    """As a user launches it, twice: the second finds everything done."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    launch += ["recipes/extract.py", "--encoder", speech / "encoder", "--save_folder", tmp_path]
    launch += ["--shards", speech / "shards", "--precision", "bf16"]
    for _ in range(2):
        done = subprocess.run(
            launch, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
        assert b"process 0 of 2: its 5 of 9" in done.stdout
        assert b"process 1 of 2: its 4 of 9" in done.stdout
    assert len(files(tmp_path)) == 2
