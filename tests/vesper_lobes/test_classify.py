"""The command line: files and folders in, lines or a csv out, errors one by one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from exported_model import CLASSES, build_export, speechlike, write_audio

from vesper_lobes import classify
from vesper_lobes.classify import find_audio, main
from vesper_lobes.export import load_classifier


@pytest.fixture
def folder(tmp_path, tiny_config):
    return build_export(tmp_path / "model", tiny_config())


@pytest.fixture
def audio(tmp_path):
    """Two levels, four formats, a file that is no audio by name."""
    (tmp_path / "audio" / "deep").mkdir(parents=True)
    for index, name in enumerate(["b.wav", "a.flac", "deep/c.MP3", "deep/d.ogg"]):
        write_audio(tmp_path / "audio" / name, speechlike(0.5 + 0.2 * index, seed=index))
    (tmp_path / "audio" / "notes.txt").write_text("not audio")
    return tmp_path / "audio"


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_folders_are_walked_in_order_and_once(audio):
    found = find_audio([audio / "b.wav", audio, audio])
    assert [path.relative_to(audio).as_posix() for path in found] == [
        "b.wav",
        "a.flac",
        "deep/c.MP3",
        "deep/d.ogg",
    ]


def test_csv_of_a_folder(folder, audio, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert main([str(audio), "--model", str(folder), "--csv", str(out), "--batch-size", "3"]) == 0
    rows = read(out)
    assert list(rows[0]) == ["file", "seconds", "label", *(f"p_{c}" for c in CLASSES), "error"]
    assert len(rows) == 4
    model = load_classifier(folder)
    for row in rows:
        predictions = model.classify(row["file"])
        assert row["label"] == predictions.labels[0]
        shares = torch.tensor([float(row[f"p_{c}"]) for c in CLASSES])
        assert torch.allclose(shares, predictions.probabilities[0], atol=2e-5)
        assert row["error"] == ""
    assert {row["seconds"] for row in rows} >= {"0.500", "0.700"}
    assert "4 of 4 files classified, 0 failed" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_bad_files_are_reported_and_the_others_go_on(folder, audio, tmp_path, capsys):
    (audio / "broken.wav").write_bytes(b"RIFF no audio at all")
    (audio / "empty.wav").write_bytes(b"")
    write_audio(audio / "short.wav", speechlike(0.02))
    write_audio(audio / "none.flac", torch.zeros(0))
    out = tmp_path / "out.csv"
    code = main([str(audio), str(audio / "gone.wav"), "--model", str(folder), "--csv", str(out)])
    assert code == 1
    rows = {Path(row["file"]).name: row for row in read(out)}
    assert len(rows) == 9
    bad = ["broken.wav", "empty.wav", "short.wav", "none.flac", "gone.wav"]
    error = capsys.readouterr().err
    for name in bad:
        assert rows[name]["error"] and not rows[name]["label"] and name in rows[name]["error"]
        assert name in error
    assert "too short" in rows["short.wav"]["error"] and "320 samples" in rows["short.wav"]["error"]
    assert all(row["label"] in CLASSES for name, row in rows.items() if name not in bad)
    assert "4 of 9 files classified, 5 failed" in error


def test_lines_on_standard_output(folder, audio, capsys):
    assert main([str(audio / "a.flac"), "--model", str(folder)]) == 0
    line = capsys.readouterr().out.strip()
    name, label, shares = line.split("\t")
    assert name == str(audio / "a.flac") and label in CLASSES
    assert [part.split("=")[0] for part in shares.split()] == CLASSES


def test_an_older_csv_stays_if_writing_fails(folder, audio, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    out.write_text("older")

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(classify.csv, "writer", full)
    with pytest.raises(OSError):
        main([str(audio), "--model", str(folder), "--csv", str(out)])
    assert out.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "model", "out.csv"]


def test_an_interrupted_run_keeps_what_is_done(folder, audio, tmp_path, monkeypatch):
    real = classify.read_audio

    def interrupt(path):
        if Path(path).name == "c.MP3":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(classify, "read_audio", interrupt)
    out = tmp_path / "out.csv"
    code = main([str(audio), "--model", str(folder), "--csv", str(out), "--batch-size", "1"])
    assert code == 130 and len(read(out)) == 2


@pytest.mark.parametrize(
    "paths, model, reason",
    [
        (["audio"], "nowhere", "missing config.json"),
        (["model"], "model", "no audio"),
    ],
)
def test_nothing_to_start_with_is_exit_code_2(folder, audio, capsys, paths, model, reason):
    root = audio.parent
    code = main([*(str(root / path) for path in paths), "--model", str(root / model)])
    assert code == 2 and reason in capsys.readouterr().err


@pytest.mark.parametrize("extra", [["--batch-size", "0"], ["--csv", "/no/such/folder/x.csv"]])
def test_wrong_arguments_are_told_before_the_work(folder, audio, extra):
    with pytest.raises(SystemExit) as stop:
        main([str(audio), "--model", str(folder), *extra])
    assert stop.value.code == 2


def test_as_a_module_from_another_folder(folder, audio, tmp_path):
    project = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "vesper_lobes.classify", "audio", "--model", "model"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) == 4
