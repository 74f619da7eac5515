"""Your own audio: a folder, a list of files or a csv, with labels or without.

Without labels it makes the manifest that pretraining reads (any speech will do). With labels it
makes speaker-disjoint folds too. Where labels come from, in the order in which they are taken:

csv       ``--csv labels.csv`` with a column wav (or file, path, filename) and any of emotion (or
          label), speaker, dialogue, session, split, ID, start, stop; other names are given by
          ``--columns wav=clip emotion=target``. Rows may cut several utterances from one file.
regex     ``--regex '(?P<speaker>\\d\\d)_(?P<emotion>[a-z]+)'``, searched in the relative path.
names     ``--names SPEAKER_EMOTION_*``: the same for file names with separators, without a regex.
layout    ``--layout speaker/emotion`` names the folders under data_folder, first to last; ``_``
          for a folder that means nothing: ``--layout _/speaker``.

``--labels a=angry b=sad`` renames emotions; those it does not name are left out, by name. With a
``split`` of train, dev and test given, that split is the only fold (and refused under protocol B
where it shares speakers); else folds go by sorted speaker.
"""

import argparse
import csv
import os
import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

from data_prep.folds import check_protocol, groups_of, official_fold, rotating_folds
from data_prep.headers import AudioFile, find_audio
from data_prep.preparation import PreparationError, command_parser, prepare, run_command

LABELS = ("speaker", "emotion", "dialogue", "session", "split")
SYNONYMS = {
    "wav": ("wav", "file", "path", "filename", "name"),
    "emotion": ("emotion", "label"),
    "speaker": ("speaker", "spk"),
    "ID": ("ID", "id", "utterance"),
}


def prepare_folder(
    data_folder,
    save_folder,
    protocol=None,
    file_list=None,
    csv_file=None,
    columns=None,
    regex=None,
    names=None,
    layout=None,
    labels=None,
    num_folds=5,
    corpus=None,
    allow_partial=False,
    verify=False,
    workers=None,
):
    """Write the manifest, folds and summary of any audio under a folder.

    Parameters
    ----------
    data_folder : str or Path
        All audio is below it; paths in the manifest are relative to it.
    save_folder : str or Path
    protocol : "A", "B" or None
        Folds need emotions; None makes B where there are emotions and speakers (or a split), and
        no folds otherwise.
    file_list : str or Path, optional
        A text file with one path a line, absolute or relative to `data_folder`.
    csv_file : str or Path, optional
        Labels; only the files it names are taken.
    columns : dict, optional
        Manifest column -> column of `csv_file`, where the usual names do not fit.
    regex : str, optional
        With named groups out of speaker, emotion, dialogue, session, split, ID.
    names : str, optional
        The file name as a plain pattern, see `name_regex`; instead of `regex`.
    layout : str, optional
        Folder levels such as ``speaker/emotion``.
    labels : dict, optional
        Old -> new emotion names; others are left out.
    num_folds : int
        Folds by speaker.
    corpus : str, optional
        The name in the manifest; default the data folder's.
    allow_partial : bool
        Go on when files of the list or the csv are missing.
    verify : bool
        Decode and hash every file.
    workers : int, optional
        Threads that read files.

    Returns
    -------
    Prepared
        Paths: manifest, folds (of train, dev, test; empty without labels), summary.

    Raises
    ------
    PreparationError, ManifestError, ProtocolError
    """
    corpus = corpus or Path(data_folder).resolve().name
    if protocol is not None:
        check_protocol(protocol, "AB", corpus)
    if names and regex:
        raise PreparationError("names and regex both describe the file name: give one of them.")
    regex = name_regex(names) if names else regex
    if csv_file and (regex or layout or file_list):
        raise PreparationError("a csv brings files and labels: give no list, regex or layout too.")
    inputs = [Path(path) for path in (file_list, csv_file) if path]
    rows, missing = [], []
    if csv_file:
        rows, found, missing = _csv_rows(data_folder, csv_file, columns or {})
    elif file_list:
        found, missing = _listed(data_folder, Path(file_list).read_text("utf-8").splitlines())
    else:
        found = find_audio(data_folder)
    if missing and not allow_partial:
        shown = "".join(f"\n  {name}: {reason}" for name, reason in missing[:5])
        raise PreparationError(
            f"{len(missing)} listed files are not under {data_folder}, such as:{shown}\n"
            "Correct the paths, or go on without them: allow_partial=True, --allow_partial."
        )
    describe = _by_csv(rows) if csv_file else _by_name(found[0], regex, layout)
    describe = _renaming(describe, labels)
    if protocol is None:
        protocol = _natural_protocol(found[0], describe)
    return prepare(
        corpus=corpus,
        data_folder=data_folder,
        save_folder=save_folder,
        options={
            "from": "csv" if csv_file else "list" if file_list else "folder",
            "columns": columns,
            "regex": regex,
            "layout": layout,
            "labels": labels,
            "num_folds": num_folds,
        },
        describe=describe,
        make_folds=lambda manifest, name: make_folds(manifest, name, num_folds),
        protocol=protocol,
        allow_partial=allow_partial,
        found=found,
        missing=missing,
        inputs=inputs,
        verify=verify,
        workers=workers,
    )


def make_folds(manifest, protocol, num_folds):
    """The given split as one fold, or folds by sorted speaker."""
    if (manifest["emotion"] == "").any():
        raise PreparationError("some utterances have no emotion; folds need one for each.")
    if (manifest["split"] != "").any():
        return official_fold(manifest, protocol)
    return rotating_folds(manifest, groups_of(manifest["speaker"], num_folds), protocol)


def _listed(data_folder, lines):
    """(files, left out) of the listed paths, and the (path, reason) of those not there."""
    root = os.path.realpath(data_folder)
    files, missing = set(), []
    for line in (line.strip() for line in lines):
        if not line:
            continue
        full = os.path.join(data_folder, line)  # an absolute line stays what it is
        relative = os.path.relpath(os.path.realpath(full), root).replace(os.sep, "/")
        if relative.startswith("../"):
            missing.append((line, "outside the data folder"))
        elif not os.path.isfile(full):
            missing.append((line, "no such file"))
        else:
            status = os.stat(full)
            files.add(AudioFile(relative, status.st_size, status.st_mtime_ns))
    return (sorted(files), []), missing


def _csv_rows(data_folder, csv_file, columns):
    """The csv's rows as manifest fields with their relative path, and the files they name."""
    with open(csv_file, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        names = {}
        for field in ("wav", "ID", *LABELS, "start", "stop"):
            choices = [columns[field]] if field in columns else SYNONYMS.get(field, (field,))
            names[field] = next((name for name in choices if name in header), None)
            if names[field] is None and (field == "wav" or field in columns):
                raise PreparationError(
                    f"{csv_file}:1: no column {' or '.join(choices)} in {','.join(header)}. "
                    f"Say which one it is: --columns {field}=NAME."
                )
        rows = [{f: row[n] or "" for f, n in names.items() if n} for row in reader]
    (files, left_out), missing = _listed(data_folder, {row["wav"] for row in rows})
    gone, root = {name for name, _ in missing}, os.path.realpath(data_folder)
    for row in rows:
        full = os.path.realpath(os.path.join(data_folder, row["wav"].strip()))
        row["path"] = os.path.relpath(full, root).replace(os.sep, "/")
    return [row for row in rows if row["wav"].strip() not in gone], (files, left_out), missing


def name_regex(pattern):
    """A regex from a plain pattern of file names, without extension.

    Capital SPEAKER, EMOTION, DIALOGUE, SESSION, SPLIT and ID stand for labels, ``*`` for anything,
    everything else for itself.

    Examples
    --------
    >>> found = re.search(name_regex("SPEAKER-*-EMOTION"), "clips/anna-take2-very happy.wav")
    >>> found["speaker"], found["emotion"]
    ('anna', 'very happy')
    """
    words = [name.upper() for name in (*LABELS, "ID")]
    parts = re.split(rf"({'|'.join(words)}|\*)", pattern)
    named = {word: f"(?P<{word if word == 'ID' else word.lower()}>[^/]+?)" for word in words}
    found = {"*": "[^/]*?", **named}
    body = "".join(found.get(part) or re.escape(part) for part in parts)
    return rf"(?:^|/){body}\.[^./]+$"


def _by_csv(rows):
    """A describe function over the csv's rows; several rows may share a file."""
    by_path = {}
    for row in rows:
        by_path.setdefault(row["path"], []).append(row)

    def describe(path):
        described = []
        for row in by_path[path]:
            fields = {name: row[name] for name in LABELS if row.get(name)}
            try:
                fields["start"], fields["stop"] = (
                    int(row.get("start") or 0),
                    int(row.get("stop") or -1),
                )
            except ValueError:
                return f"start or stop is no number of samples: {row}"
            whole = (fields["start"], fields["stop"]) == (0, -1)
            name = _name(path) if whole else f"{_name(path)}-{fields['start']}-{fields['stop']}"
            described.append({"ID": row.get("ID") or name, **fields})
        return described if len(described) > 1 else described[0]

    return describe


def _by_name(files, regex, layout):
    """A describe function that reads labels from the relative path."""
    pattern = re.compile(regex) if regex else None
    levels = layout.strip("/").split("/") if layout else []
    unknown = {*(pattern.groupindex if pattern else ()), *levels} - {*LABELS, "ID", "_"}
    if unknown:
        raise PreparationError(f"{sorted(unknown)} are none of {', '.join(LABELS)}, ID.")
    stems = Counter(_name(file.path) for file in files)

    def describe(path):
        stem = _name(path)
        fields = {"ID": stem if stems[stem] == 1 else unicodedata.normalize("NFC", path)}
        folders = PurePosixPath(path).parts[:-1]
        if len(folders) < len(levels):
            return f"not in folders {layout}"
        fields.update(pair for pair in zip(levels, folders, strict=False) if pair[0] != "_")
        if pattern:
            match = pattern.search(path)
            if not match:
                return "the regex does not match its path"
            fields.update({name: text for name, text in match.groupdict().items() if text})
        return fields

    return describe


def _name(path):
    """The relative path without extension, in one Unicode form (macOS writes another)."""
    return unicodedata.normalize("NFC", PurePosixPath(path).with_suffix("").as_posix())


def _renaming(describe, labels):
    """`describe` with emotions renamed; those without a new name become left-out clips."""
    if not labels:
        return describe

    def renamed(fields):
        emotion = fields.get("emotion", "")
        if emotion not in labels:
            return f"emotion {emotion!r} is not among the labels asked for"
        return {**fields, "emotion": labels[emotion]}

    def describe_renamed(path):
        fields = describe(path)
        if isinstance(fields, list):
            return [renamed(one) for one in fields]
        return fields if isinstance(fields, str) else renamed(fields)

    return describe_renamed


def _fields_of(files, describe):
    for file in files:
        fields = describe(file.path)
        for one in fields if isinstance(fields, list) else [fields]:
            if isinstance(one, dict):
                yield one


def _natural_protocol(files, describe):
    """B where the labels allow folds, else None."""
    fields = list(_fields_of(files, describe))
    labelled = fields and all(one.get("emotion") for one in fields)
    return (
        "B" if labelled and all(one.get("speaker") or one.get("split") for one in fields) else None
    )


def _pairs(texts):
    """``["a=b"]`` -> ``{"a": "b"}``."""
    if any("=" not in text for text in texts):
        raise argparse.ArgumentTypeError("write NAME=VALUE")
    return dict(text.split("=", 1) for text in texts)


def main(argv=None):
    """The command."""
    parser = command_parser(__doc__)
    parser.set_defaults(protocol=None)
    parser.add_argument("--file_list", help="text file, one path a line")
    parser.add_argument("--csv_file", "--csv", help="csv of files and labels")
    parser.add_argument("--columns", nargs="+", metavar="FIELD=NAME", help="names in the csv")
    parser.add_argument("--regex", help="with groups (?P<speaker>...) and (?P<emotion>...)")
    parser.add_argument("--names", help="plain pattern of file names: SPEAKER_EMOTION_*")
    parser.add_argument("--layout", help="meaning of the folders, such as speaker/emotion")
    parser.add_argument("--labels", nargs="+", metavar="OLD=NEW", help="rename emotions")
    parser.add_argument("--num_folds", type=int, default=5)
    parser.add_argument("--corpus", help="name in the manifest")
    arguments = parser.parse_args(argv)
    for name in ("columns", "labels"):
        texts = getattr(arguments, name)
        try:
            setattr(arguments, name, _pairs(texts) if texts else None)
        except argparse.ArgumentTypeError as error:
            parser.error(f"--{name}: {error}")
    return run_command(prepare_folder, arguments)


if __name__ == "__main__":
    sys.exit(main())
