"""EmoBox's emodb says neutral and its label map Neutral: a strict look-up loses 79 of 535 clips."""

from corpus_trees import write_sparse_wav

from data_prep.emobox_prepare import prepare_emobox
from data_prep.manifest import read_manifest


def test_labels_are_compared_without_case(tmp_path):
    lines = ["key,file,emo,sr,length,fold1"]
    for i in range(20):
        emotion, part = ("neutral", "anger")[i % 2], ("train", "test")[i % 4 == 0]
        lines.append(f"emodb-{i:02d}x,wav/{i:02d}x.wav,{emotion},16000,0.3,{part}")
        write_sparse_wav(tmp_path / "data" / "wav" / f"{i:02d}x.wav")
    (tmp_path / "emodb.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "emodb_label_map.json").write_text('{"anger": "Angry", "Neutral": "Neutral"}')
    prepared = prepare_emobox(tmp_path / "data", tmp_path / "out", tmp_path / "emodb.csv")
    assert read_manifest(prepared.manifest)["emotion"].tolist() == ["Neutral", "Angry"] * 10
