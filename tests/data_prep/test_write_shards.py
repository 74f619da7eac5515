"""Shards hold what the manifest names, whole or not at all, and are plain webdataset tars."""

import io
import json

import numpy as np
import pytest
import soundfile

from data_prep import write_shards as writer
from data_prep.folder_prepare import prepare_folder
from data_prep.manifest import ManifestError, read_manifest, write_manifest
from data_prep.shards import read_index, read_shards, verify_shards
from data_prep.speech_sources import prepare_speech, read_speech
from data_prep.write_shards import main, write_shards
from vesper_lobes.audio import read_audio


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twelve clips; one of them stereo at 22,050 Hz, one with dots in its name."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for k in range(12):
        rate, shape = (22050, (22050, 2)) if k == 3 else (16000, 8000 + 500 * k)
        name = "clip.11.x.wav" if k == 11 else f"clip{k:02d}.wav"
        loud = 0.5 if k == 5 else 0.1  # one of them clips
        soundfile.write(folder / name, loud * random.standard_normal(shape), rate)
    prepare_folder(folder, folder / "prep")
    return folder


@pytest.fixture
def sources(corpus):
    return dict(manifest=str(corpus / "prep/manifest.csv"), data_folder=str(corpus))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("form", ["flac", "copy"])
def test_shards_hold_the_manifests_speech(sources, tmp_path, form):
    index = write_shards(**sources, save_folder=tmp_path / "out", shard_mb=0.1, format=form)
    assert index == read_index(tmp_path / "out") and len(index["shards"]) > 2
    rows, before = read_shards(tmp_path / "out"), read_speech(None, **sources)
    columns = ["ID", "duration", "speaker", "emotion", "dialogue", "session", "split", "corpus"]
    assert rows[columns].equals(before[columns])
    for one, other in zip(rows["wav"], before["wav"], strict=True):
        np.testing.assert_allclose(read_audio(one), read_audio(other), atol=2**-15)
        if form == "copy" or soundfile.info(other).samplerate == 16000:  # 16 bits stay 16 bits
            assert read_audio(one).equal(read_audio(other))
    assert index["hours"] == pytest.approx(before["duration"].sum() / 3600, abs=1e-4)
    verify_shards(tmp_path / "out")


def test_webdataset_reads_them(sources, tmp_path):
    from webdataset import WebDataset

    write_shards(**sources, save_folder=tmp_path, shard_mb=0.1)
    tars = sorted(str(path) for path in tmp_path.glob("*.tar"))
    samples = [(json.loads(s["json"]), s["flac"]) for s in WebDataset(tars, shardshuffle=False)]
    rows = read_shards(tmp_path).set_index("ID")
    assert sorted(record["ID"] for record, _ in samples) == sorted(rows.index)
    for record, flac in samples:
        wave, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
        assert rate == 16000 and record["duration"] == pytest.approx(len(wave) / rate)
        np.testing.assert_array_equal(wave, read_audio(rows["wav"][record["ID"]]))


def test_the_same_rows_give_the_same_bytes_and_a_seed_another_order(sources, tmp_path):
    for name, options in {"a": {}, "b": {"workers": 1}, "c": {"seed": 1}}.items():
        write_shards(**sources, save_folder=tmp_path / name, shard_mb=0.1, **options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    write_shards(**sources, save_folder=tmp_path / "d", order="manifest")
    places = [int(wav.split("[")[1].split(":")[0]) for wav in read_shards(tmp_path / "d")["wav"]]
    assert places == sorted(places)


def test_an_interruption_costs_the_shard_in_hand(sources, tmp_path, monkeypatch):
    out, encode, calls = tmp_path / "out", writer._encode, []

    def stopping(record, form):
        calls.append(record["ID"])
        if len(calls) == 7:
            raise KeyboardInterrupt
        return encode(record, form)

    monkeypatch.setattr(writer, "_encode", stopping)
    with pytest.raises(KeyboardInterrupt):
        write_shards(**sources, save_folder=out, shard_mb=0.1, workers=1)
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]
    with pytest.raises(ManifestError, match="not finished.*again"):
        read_shards(out)
    monkeypatch.setattr(writer, "_encode", encode)
    before = contents(out)
    write_shards(**sources, save_folder=out, shard_mb=0.1)
    assert before.items() <= contents(out).items() and len(before) >= 3
    write_shards(**sources, save_folder=tmp_path / "whole", shard_mb=0.1)
    assert contents(out) == contents(tmp_path / "whole")


def test_other_options_in_the_same_folder_are_refused(sources, tmp_path):
    write_shards(**sources, save_folder=tmp_path / "out")
    with pytest.raises(ManifestError, match="shards of other seed, shard_mb"):
        write_shards(**sources, save_folder=tmp_path / "out", seed=1, shard_mb=1)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/note.txt").write_text("mine")
    with pytest.raises(ManifestError, match="not empty"):
        write_shards(**sources, save_folder=tmp_path / "taken")


def test_damage_is_found(sources, tmp_path):
    write_shards(**sources, save_folder=tmp_path, shard_mb=0.1)
    tar = tmp_path / "shard-000001.tar"
    content = bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)
    with pytest.raises(ManifestError, match="shard-000001.tar: its SHA-256"):
        verify_shards(tmp_path)
    tar.write_bytes(content[:-1])
    with pytest.raises(ManifestError, match="shard-000001.tar: .* bytes instead of"):
        read_shards(tmp_path)


def test_parts_of_files_are_cut_out_or_refused(corpus, tmp_path):
    row = read_manifest(corpus / "prep/manifest.csv").iloc[0].to_dict()
    parts = [{**row, "ID": f"part{k}", "start": 1000 * k, "stop": 1000 * k + 4000} for k in (0, 2)]
    write_manifest([{**part, "duration": 0.25} for part in parts], tmp_path / "parts.csv")
    sources = dict(manifest=str(tmp_path / "parts.csv"), data_folder=str(corpus))
    write_shards(**sources, save_folder=tmp_path / "out")
    whole = read_audio(row["wav"].replace("$data_root", str(corpus)))
    assert read_audio(read_shards(tmp_path / "out")["wav"][1]).equal(whole[2000:6000])
    with pytest.raises(ManifestError, match="parts of files.*--format flac"):
        write_shards(**sources, save_folder=tmp_path / "copied", format="copy")


def test_a_bad_file_is_named(tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    row = {"ID": "bad", "duration": 1.0, "wav": "$data_root/bad.wav"}
    write_manifest([row], tmp_path / "m.csv")
    with pytest.raises(ManifestError, match=r"bad.wav \(bad\): cannot be packed"):
        write_shards(str(tmp_path / "m.csv"), str(tmp_path), tmp_path / "out")


def test_the_command_and_several_corpora(corpus, sources, tmp_path, capsys):
    both = {name: f"{path},{path}" for name, path in sources.items()}
    rows = read_manifest(corpus / "prep/manifest.csv")
    write_manifest(rows.assign(corpus="other"), tmp_path / "other.csv")
    both["manifest"] = f"{sources['manifest']},{tmp_path / 'other.csv'}"
    arguments = [part for name, value in both.items() for part in (f"--{name}", value)]
    assert main([*arguments, "--save_folder", str(tmp_path / "out")]) == 0
    assert "24 utterances" in capsys.readouterr().out
    prepare_speech(tmp_path, shards=str(tmp_path / "out"))
    assert list(read_speech(None, shards=tmp_path / "out")["ID"]) == list(
        read_speech(None, **both)["ID"]
    )
    assert main(["--verify", str(tmp_path / "out")]) == 0
    assert main(["--verify", str(corpus)]) == 1
