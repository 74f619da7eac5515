"""EmoBox: one reader for the metadata of its 32 corpora in 14 languages.

EmoBox publishes, for each corpus, file names, labels, lengths and folds, and no audio.

Get it    https://github.com/emo-box/EmoBox, folder ``data/<corpus>/``; the audio from each corpus's
          own source. Cite Ma et al., "EmoBox", Interspeech 2024.
Licence   MIT for the metadata; each corpus has its own for the audio.
Layout    a folder with ``<corpus>.jsonl``, ``fold_<k>/<corpus>_{train,valid,test}_fold_<k>.jsonl``
          and ``label_map.json``; or one csv with the columns ``key,file,emo`` and ``fold1..foldK``
          (train, valid or test), with ``<corpus>_label_map.json`` beside it.
Paths     a file is looked for under data_folder by its listed path, then without its first folders
          (``downloads/emodb/wav/x.wav``, ``emodb/wav/x.wav``, ``wav/x.wav``), with any audio
          extension; the bare name counts only where names are unique.
Protocol  E, EmoBox's own folds. **Most share speakers between train and test**, so they are never
          called B; the summary warns. Where a fold has no valid set, a random fifth of its training
          utterances is the dev set (seed 0, ours; EmoBox draws its own).
Quirks    The metadata name no speakers. They are read from the keys of emodb, ravdess, iemocap and
          cremad, or with ``--speaker_regex`` (one group); else they stay empty. MELD's entries are
          videos: put wavs of the same names beside them. Labels and label map differ in case
          (emodb: neutral, Neutral): they are compared without it.
"""

import csv
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep.folds import Fold, check_protocol
from data_prep.headers import find_audio
from data_prep.preparation import PreparationError, command_parser, prepare, run_command

SPEAKERS = {
    "emodb": r"emodb-(\d\d)",
    "ravdess": r"-(\d\d)$",
    "iemocap": r"(Ses\d\d)[FM]_\w+_([FM])\w*$",
    "cremad": r"cremad-(\d{4})",
}
SETS = {"train": "train", "valid": "dev", "dev": "dev", "test": "test"}
DEV_SHARE = 0.2


def prepare_emobox(
    data_folder,
    save_folder,
    metadata,
    protocol="E",
    speaker_regex=None,
    allow_partial=False,
    verify=False,
    workers=None,
):
    """Write the manifest, folds and summary of one corpus that EmoBox describes.

    Parameters
    ----------
    data_folder : str or Path
        The corpus's audio.
    save_folder : str or Path
    metadata : str or Path
        EmoBox's folder ``data/<corpus>``, or a csv; its name is the corpus's.
    protocol : "E"
    speaker_regex : str, optional
        Searched in the key; its groups together are the speaker.
    allow_partial : bool
        Go on when audio of some entries is missing.
    verify : bool
        Decode and hash every file.
    workers : int, optional
        Threads that read files.

    Returns
    -------
    Prepared
        Paths: manifest, folds (of train, dev, test), summary.

    Raises
    ------
    PreparationError, ProtocolError
    """
    metadata = Path(metadata)
    corpus = metadata.stem
    check_protocol(protocol, "E", f"EmoBox's {corpus}")
    entries, folds, inputs = (_read_folder if metadata.is_dir() else _read_csv)(metadata, corpus)
    names = _label_map(metadata, corpus, inputs)
    pattern = re.compile(speaker_regex or SPEAKERS.get(corpus, "$^"))
    found = find_audio(data_folder)
    by_path = match_files([entry["file"] for entry in entries], [file.path for file in found[0]])
    missing, of_path = [], defaultdict(list)
    for entry in entries:
        if entry["file"] in by_path:
            of_path[by_path[entry["file"]]].append(_fields(entry, names, pattern))
        else:
            missing.append((entry["file"], "listed by EmoBox, not on disk as audio"))
    return prepare(
        corpus=corpus,
        data_folder=data_folder,
        save_folder=save_folder,
        options={"metadata": metadata.name, "speaker_regex": pattern.pattern},
        describe=lambda path: of_path.get(path, "not listed by EmoBox"),
        make_folds=lambda manifest, _: make_folds(manifest, folds),
        protocol=protocol,
        disjoint=None,
        expected={"clips": len(entries)},
        allow_partial=allow_partial,
        found=found,
        missing=missing,
        inputs=inputs,
        verify=verify,
        workers=workers,
    )


def _fields(entry, names, pattern):
    """Manifest fields of an entry, or the reason to leave it out."""
    emotion = names.get(entry["emo"].lower())
    if emotion is None:
        return f"label {entry['emo']} is not in EmoBox's label map"
    match = pattern.search(entry["key"])
    fields = {
        "ID": entry["key"],
        "emotion": emotion,
        "speaker": "".join(match.groups()) if match else "",
    }
    if entry.get("end_time") is not None:
        rate = entry["sample_rate"]
        fields["start"] = int(entry["start_time"] * rate)
        fields["stop"] = int(entry["end_time"] * rate)
    return fields


def make_folds(manifest, folds):
    """EmoBox's folds; `folds` maps fold number -> key -> train, dev or test."""
    made = []
    for number in sorted(folds):
        place = manifest["ID"].map(folds[number])
        train, dev, test = (manifest[place == name] for name in ("train", "dev", "test"))
        if not len(dev):
            order = np.random.RandomState(0).permutation(len(train))
            chosen = np.zeros(len(train), dtype=bool)
            chosen[order[: round(DEV_SHARE * len(train))]] = True
            train, dev = train[~chosen], train[chosen]
        made.append(Fold(train, dev, test))
    return made


def match_files(listed, on_disk):
    """Listed path -> path on disk, by ever shorter ends of the path, whatever the extension.

    Examples
    --------
    >>> match_files(["downloads/emodb/wav/a.wav"], ["wav/a.flac"])
    {'downloads/emodb/wav/a.wav': 'wav/a.flac'}
    """
    stems = {str(PurePosixPath(path).with_suffix("")): path for path in reversed(on_disk)}
    bare = Counter(PurePosixPath(path).stem for path in listed)
    matched = {}
    for path in listed:
        parts = PurePosixPath(path).with_suffix("").parts
        last = len(parts) if bare[parts[-1]] == 1 else len(parts) - 1
        ends = ("/".join(parts[i:]) for i in range(last))
        if end := next((end for end in ends if end in stems), None):
            matched[path] = stems[end]
    return matched


def _read_csv(metadata, corpus):
    """Entries and folds of the csv form."""
    if not metadata.is_file():
        raise PreparationError(f"{metadata}: no such metadata. Give EmoBox's data/<corpus>.")
    with open(metadata, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [name[4:] for name in rows[0] if re.fullmatch(r"fold\d+", name)] if rows else []
    if not numbers or not {"key", "file", "emo"} <= set(rows[0]):
        raise PreparationError(f"{metadata}:1: the columns must be key, file, emo, fold1, ...")
    folds = {int(n): {row["key"]: SETS.get(row[f"fold{n}"], "") for row in rows} for n in numbers}
    return rows, folds, [metadata]


def _read_folder(metadata, corpus):
    """Entries and folds of the jsonl form."""
    whole = metadata / f"{corpus}.jsonl"
    if not whole.is_file():
        raise PreparationError(f"{metadata}: no {whole.name}. Give EmoBox's folder data/<corpus>.")
    entries = [{**entry, "file": entry["wav"]} for entry in _json_lines(whole)]
    folds, inputs = {}, [whole]
    for path in sorted(metadata.glob(f"fold_*/{corpus}_*_fold_*.jsonl")):
        match = re.fullmatch(rf"{re.escape(corpus)}_(train|valid|test)_fold_(\d+)", path.stem)
        if match:
            members = dict.fromkeys((e["key"] for e in _json_lines(path)), SETS[match[1]])
            folds.setdefault(int(match[2]), {}).update(members)
            inputs.append(path)
    if not folds:
        raise PreparationError(f"{metadata}: no fold_1/{corpus}_train_fold_1.jsonl. Get it whole.")
    return entries, folds, inputs


def _json_lines(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError:
                    raise PreparationError(f"{path}:{number}: no JSON. Get it again.") from None


def _label_map(metadata, corpus, inputs):
    """EmoBox's label in lower case -> emotion; the file becomes one of the inputs."""
    folder = metadata if metadata.is_dir() else metadata.parent
    for path in (folder / f"{corpus}_label_map.json", folder / "label_map.json"):
        if path.is_file():
            inputs.append(path)
            names = json.loads(path.read_text(encoding="utf-8"))
            return {label.lower(): emotion for label, emotion in names.items()}
    raise PreparationError(f"{folder}: no label_map.json. Copy EmoBox's beside the metadata.")


def main(argv=None):
    """The command."""
    parser = command_parser(__doc__, "E")
    parser.set_defaults(protocol="E")
    parser.add_argument("--metadata", required=True, help="EmoBox's data/<corpus>, or a csv")
    parser.add_argument("--speaker_regex", help="its groups, found in the key, are the speaker")
    return run_command(prepare_emobox, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
