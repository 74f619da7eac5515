"""macOS leaves ``._name.wav`` beside ``name.wav``; a glob for *.wav takes both."""

import json

from corpus_trees import emodb_names, write_sparse_wav

from data_prep.emodb_prepare import prepare_emodb


def test_companions_are_left_out_by_name(tmp_path):
    for name in emodb_names():
        write_sparse_wav(tmp_path / "data" / "wav" / f"{name}.wav")
    companion = tmp_path / "data" / "wav" / "._03a01Wa.wav"
    companion.write_bytes(b"\x00\x05\x16\x07" + bytes(200))
    prepared = prepare_emodb(tmp_path / "data", tmp_path / "out", num_classes=7)
    summary = json.loads(prepared.summary.read_text())
    assert summary["clips"] == 535
    assert summary["left_out"][0]["name"] == "wav/._03a01Wa.wav"
    assert "AppleDouble" in summary["left_out"][0]["reason"]
