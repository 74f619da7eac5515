"""MELD's corrupt, soundless and missing clips are named, and the others still come through."""

import json

import pytest
from corpus_trees import write_tone

from data_prep.manifest import read_manifest
from data_prep.meld_prepare import find_ffmpeg, prepare_meld

HEADER = "Sr No.,Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n"


def test_every_bad_clip_is_in_the_summary(tmp_path):
    ffmpeg = find_ffmpeg()
    if not ffmpeg:
        pytest.skip("no ffmpeg: pip install imageio-ffmpeg")
    root = tmp_path / "MELD"
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "test"}
    for split, folder in folders.items():
        rows = "1,a,Joey,joy,1,0\n" + {"train": "2,b,Ross,neutral,125,3\n"}.get(split, "")
        rows += {"dev": "3,c,Phoebe,neutral,110,7\n", "test": "4,d,Ross,joy,2,0\n"}.get(split, "")
        root.mkdir(exist_ok=True)
        (root / f"{split}_sent_emo.csv").write_text(HEADER + rows)
        write_tone(root / folder / "dia1_utt0.wav")
    (root / "train_splits" / "dia125_utt3.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    write_tone(root / "test" / "dia2_utt0.wav", 0.064)
    prepared = prepare_meld(root, tmp_path / "out", ffmpeg=ffmpeg, allow_partial=True)
    summary = json.loads(prepared.summary.read_text())
    reasons = {entry["name"]: entry["reason"] for entry in summary["left_out"]}
    assert set(reasons) == {"train_dia125_utt3", "dev_dia110_utt7"}
    assert reasons["train_dia125_utt3"].startswith("ffmpeg: ")
    assert reasons["dev_dia110_utt7"] == "missing in the published corpus"
    assert summary["remarks"] == {"test_dia2_utt0": "very short: 0.064 s"}
    assert len(read_manifest(prepared.manifest)) == 4
    assert not list(root.rglob("*.part"))
