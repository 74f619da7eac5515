"""The schema: what is written, what is refused, and how the refusal reads."""

import json
import random

import pytest
from speechbrain.dataio.dataset import DynamicItemDataset

from data_prep.manifest import (
    COLUMNS,
    ManifestError,
    options_hash,
    read_manifest,
    write_manifest,
    write_summary,
)

ROWS = [
    {"ID": f"u{i}", "duration": 1 / (i + 3), "wav": f"$data_root/a b/u{i}.wav", "emotion": "sad"}
    for i in range(20)
]
GOOD = "u1,1.000000,$data_root/u1.wav,0,-1,03,sad,,,,X"


def written(tmp_path, *lines):
    path = tmp_path / "m.csv"
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    return path


def test_same_rows_give_same_bytes_in_any_order(tmp_path):
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    write_manifest(ROWS, tmp_path / "a.csv")
    write_manifest(shuffled, tmp_path / "b.csv")
    text = (tmp_path / "a.csv").read_bytes()
    assert text == (tmp_path / "b.csv").read_bytes()
    assert b"\r" not in text
    ids = [line.split(b",")[0] for line in text.splitlines()[1:]]
    assert ids == sorted(ids)


def test_round_trip_keeps_texts_and_types(tmp_path):
    path = written(tmp_path, GOOD, "u2,2.5,$data_root/u2.wav,16,900,NA,neutral,,,,X")
    frame = read_manifest(path)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["speaker"].tolist() == ["03", "NA"]  # neither a number nor a missing value
    assert frame["dialogue"].tolist() == ["", ""]
    assert frame["stop"].tolist() == [-1, 900]
    write_manifest(frame, tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv").equals(frame)


def test_data_root_is_filled_in(tmp_path):
    frame = read_manifest(written(tmp_path, GOOD), data_root="/corpora/x/")
    assert frame["wav"].tolist() == ["/corpora/x/u1.wav"]


def test_speechbrain_reads_it(tmp_path):
    write_manifest(ROWS, tmp_path / "m.csv")
    data = DynamicItemDataset.from_csv(tmp_path / "m.csv", {"data_root": "/r"})
    data.set_output_keys(["id", "wav", "duration", "emotion"])
    first = data[0]
    assert first["id"] == "u0" and first["wav"] == "/r/a b/u0.wav"
    assert float(first["duration"]) == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (GOOD, "ID 'u1' was used on line 2"),
        (GOOD.replace("u1,1.0", "u2,-1.0"), "duration '-1.000000'"),
        (GOOD.replace("u1,1.000000", "u2,nan"), "duration 'nan'"),
        (GOOD.replace("u1,1.000000", "u2,long"), "duration 'long'"),
        ("u2,1.0,,0,-1,03,sad,,,,X", "wav is empty"),
        ("u2,1.0,/home/me/u2.wav,0,-1,03,sad,,,,X", "must be $data_root/"),
        ("u2,1.0,$data_root/../u2.wav,0,-1,03,sad,,,,X", "leaves the data root"),
        ("u2,1.0,$data_root/a\\u2.wav,0,-1,03,sad,,,,X", "forward slashes"),
        ("u2,1.0,$data_root/u2.wav,9,3,03,sad,,,,X", "start,stop '9','3'"),
        ("u2,1.0,$data_root/u2.wav,0.5,-1,03,sad,,,,X", "start,stop"),
        ("u2,1.0,$data_root/u2.wav,0,-1,03,bored,,,,X", "emotion 'bored'"),
        (",1.0,$data_root/u2.wav,0,-1,03,sad,,,,X", "ID is empty"),
        ("u2,1.0,$data_root/u2.wav,0,-1", "5 fields instead of 11"),
    ],
)
def test_bad_rows_are_refused_with_file_and_line(tmp_path, line, says):
    path = written(tmp_path, GOOD, line)
    with pytest.raises(ManifestError) as error:
        read_manifest(path, classes=["sad", "angry"])
    assert f"{path}:3: " in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize("content", ["", ",".join(COLUMNS) + "\n", "ID,wav\nu1,x\n"])
def test_unusable_files_are_refused(tmp_path, content):
    path = tmp_path / "m.csv"
    path.write_text(content)
    with pytest.raises(ManifestError, match="Run the corpus's preparer again"):
        read_manifest(path)


def test_missing_file_and_no_rows(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="no utterance"):
        write_manifest([], tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="no columns"):
        write_manifest([{**ROWS[0], "emotino": "sad"}], tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.csv"
    write_manifest(ROWS[:1], path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_manifest(ROWS, path)
    assert path.read_bytes() == before


def test_summary_counts_and_names(tmp_path):
    write_manifest(ROWS, tmp_path / "m.csv")
    frame = read_manifest(tmp_path / "m.csv")
    write_summary(
        tmp_path / "s.json",
        frame,
        corpus="X",
        options={"a": 1},
        left_out=[("bad.wav", "empty file"), ("gone.wav", "not on disk")],
    )
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["classes"] == {"sad": 20}
    assert summary["speakers"] == {"(unknown)": 20}
    assert summary["left_out"][0] == {"name": "bad.wav", "reason": "empty file"}
    assert summary["options_hash"] == options_hash({"a": 1}) != options_hash({"a": 2})
