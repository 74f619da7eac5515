"""Classify one file of a held-out voice with the exported model, as a user of SpeechBrain would.

python classify_one.py --model FOLDER --data_folder CORPUS --manifest TEST.csv --out FILE
"""

import argparse
import json
import os
import time
from pathlib import Path

from speechbrain.inference.classifiers import EncoderClassifier

from data_prep.manifest import read_manifest


def pick(manifest, emotion="angry"):
    """The row in the middle of the wanted emotion: not picked by the model's answer."""
    rows = manifest[manifest["emotion"] == emotion]
    return rows.iloc[len(rows) // 2]


def main(argv=None):
    """Load, classify, print, and write what the report shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_folder", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)

    row = pick(read_manifest(arguments.manifest, arguments.data_folder))
    model = EncoderClassifier.from_hparams(source=arguments.model)
    began = time.perf_counter()
    log_probabilities, score, index, labels = model.classify_file(row["wav"])
    seconds = time.perf_counter() - began
    probabilities = log_probabilities.exp().flatten().tolist()
    classes = model.hparams.label_encoder.decode_torch(index.new_tensor(range(len(probabilities))))
    answer = {
        "ID": row["ID"],
        "file": Path(row["wav"]).name,
        "duration": float(row["duration"]),
        "target": row["emotion"],
        "label": labels[0],
        "probabilities": dict(zip(classes, probabilities, strict=True)),
        "seconds": seconds,
    }
    temporary = arguments.out.with_name(f".{arguments.out.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, arguments.out)
    shown = ", ".join(f"{name} {p:.2f}" for name, p in answer["probabilities"].items())
    print(f"{answer['file']} ({row['emotion']}): {labels[0]}  [{shown}]  in {seconds:.2f} s")


if __name__ == "__main__":
    main()
