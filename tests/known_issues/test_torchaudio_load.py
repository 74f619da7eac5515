"""torchaudio.load and .save need torchcodec and ffmpeg, which most machines lack: audio is read and
written with soundfile, everywhere in the project."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"torchaudio\.(load|save|info)\(|from torchaudio import .*\b(load|save|info)\b")


def test_nothing_calls_it():
    folders = [ROOT / name for name in ("vesper_lobes", "data_prep", "recipes")]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(sources) > 20  # the walk found the project
    assert not [str(path) for path in sources if CALL.search(path.read_text(encoding="utf-8"))]
