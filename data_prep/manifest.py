"""The one manifest schema that every preparer writes and every recipe reads.

A manifest is a csv with the columns of `COLUMNS`, one row an utterance, sorted by ID:

ID        unique name of the utterance
duration  seconds, six decimals
wav       ``$data_root/relative/posix/path``: the same text on every machine
start     first sample, at the file's own rate
stop      end sample, exclusive; ``0,-1`` means the whole file
speaker, emotion, dialogue, session, split, corpus
          text, empty where unknown (pretraining corpora have no emotion and often no speaker)

SpeechBrain reads it as it is: ``DynamicItemDataset.from_csv(path, {"data_root": folder})``.
"""

import csv
import hashlib
import io
import json
import math
import os
from collections import Counter
from pathlib import Path

import pandas as pd

SCHEMA_VERSION = 1
COLUMNS = (
    "ID",
    "duration",
    "wav",
    "start",
    "stop",
    "speaker",
    "emotion",
    "dialogue",
    "session",
    "split",
    "corpus",
)
ROOT_PREFIX = "$data_root/"
MAX_ERRORS_SHOWN = 5
PREPARE_CURE = "Run the corpus's preparer again, or data_prep/folder_prepare.py for your own audio."


class ManifestError(ValueError):
    """A manifest that does not hold to the schema; the text names file, line and cure."""


def write_atomic(path, text):
    """Write `text` as UTF-8 with unix line ends, by a temporary name in the same folder.

    An interrupted run leaves either the old file or the new one, never half of one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(text.encode("utf-8"))
    os.replace(temporary, path)


def wav_field(relative_path):
    """The manifest's `wav` text for a path relative to the data root.

    Examples
    --------
    >>> wav_field("wav/03a01Wa.wav")
    '$data_root/wav/03a01Wa.wav'
    """
    return ROOT_PREFIX + str(relative_path).replace(os.sep, "/")


def write_manifest(rows, path):
    """Validate, sort by ID and write a manifest atomically.

    Parameters
    ----------
    rows : iterable of dict, or pandas.DataFrame
        ID, duration (seconds) and wav are needed; start and stop default to ``0`` and ``-1``,
        the text columns to the empty string.
    path : str or Path
        The csv to write. The same rows give the same bytes in any order and on any machine.

    Raises
    ------
    ManifestError
        If there are no rows, or a row breaks the schema.
    """
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else list(rows)
    if not records:
        raise ManifestError(f"{path}: no utterance to write. Check the data folder and options.")
    texts = sorted(_as_texts(record, path) for record in records)
    errors = _row_errors(texts, classes=None, path=path)
    if errors:
        raise ManifestError(_joined(errors))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(texts)
    write_atomic(path, buffer.getvalue())


def read_manifest(path, data_root=None, classes=None):
    """Read and validate a manifest.

    Parameters
    ----------
    path : str or Path
    data_root : str or Path, optional
        Put in the place of ``$data_root``; left as it is without one.
    classes : sequence of str, optional
        When given, every row's emotion must be one of them.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`: duration float64 (seconds), start and stop int64 (samples), text else.

    Raises
    ------
    ManifestError
        Names the file, the line and what to do about it.
    """
    texts = _read_texts(path)
    errors = _row_errors(texts, classes, path)
    if errors:
        raise ManifestError(_joined(errors))
    frame = pd.DataFrame(texts, columns=list(COLUMNS), dtype=object)
    frame["duration"] = frame["duration"].astype("float64")
    frame[["start", "stop"]] = frame[["start", "stop"]].astype("int64")
    if data_root is not None:
        root = Path(data_root).as_posix().rstrip("/") + "/"
        frame["wav"] = [root + wav[len(ROOT_PREFIX) :] for wav in frame["wav"]]
    return frame


def options_hash(options):
    """SHA-256 of a preparer's options and the schema version; the key of "is this stale?".

    Examples
    --------
    >>> options_hash({"a": 1, "b": 2}) == options_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps({"schema": SCHEMA_VERSION, "options": options}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_summary(path, frame, *, corpus, options, left_out=(), **extra):
    """Write the account of a preparation beside its manifest, as JSON.

    Parameters
    ----------
    path : str or Path
    frame : pandas.DataFrame
        The manifest's rows.
    corpus : str
    options : dict
        What the preparer was asked for: plain JSON values, no path of this machine.
    left_out : iterable of (name, reason)
        Every clip that is not in the manifest.
    **extra
        Further JSON fields: status, expected counts, folds, warnings, findings of a verification.

    Returns
    -------
    dict
        What was written.
    """
    left_out = sorted({(str(name), str(reason)) for name, reason in left_out})
    summary = {
        "corpus": corpus,
        "schema_version": SCHEMA_VERSION,
        "options": options,
        "options_hash": options_hash(options),
        "clips": len(frame),
        "hours": round(math.fsum(frame["duration"].astype(float)) / 3600, 4),
        "classes": _counts(frame["emotion"]),
        "speakers": _counts(frame["speaker"]),
        "splits": _counts(frame["split"]),
        **extra,
        "left_out_by_reason": _counts(reason for _, reason in left_out),
        "left_out": [{"name": name, "reason": reason} for name, reason in left_out],
    }
    write_atomic(path, json.dumps(summary, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return summary


def _counts(values):
    """Counts of the values, the empty text shown as "(unknown)"."""
    return dict(sorted(Counter(value or "(unknown)" for value in values).items()))


def _as_texts(record, path):
    """One row's fields as the texts that stand in the csv."""
    unknown = set(record) - set(COLUMNS)
    if unknown:
        raise ManifestError(f"{path}: {sorted(unknown)} are no columns; those are {COLUMNS}.")
    try:
        duration = f"{float(record['duration']):.6f}"
        start, stop = (str(int(record.get(c, d))) for c, d in (("start", 0), ("stop", -1)))
        fields = {c: str(record.get(c, "")) for c in COLUMNS}
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{path}: row {record.get('ID')!r} has a bad value: {error!r}"
        ) from None
    fields.update(duration=duration, start=start, stop=stop)
    return tuple(fields[c] for c in COLUMNS)


def _read_texts(path):
    """The csv's rows as lists of texts; header and number of fields checked."""
    if not Path(path).is_file():
        raise ManifestError(f"{path}: there is no such manifest. {PREPARE_CURE}")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path}: not a UTF-8 csv ({error}). {PREPARE_CURE}") from None
    if not rows:
        raise ManifestError(f"{path}: the file is empty. {PREPARE_CURE}")
    header, rows = rows[0], rows[1:]
    if sorted(header) != sorted(COLUMNS):
        missing, extra = sorted(set(COLUMNS) - set(header)), sorted(set(header) - set(COLUMNS))
        raise ManifestError(
            f"{path}:1: the columns must be {','.join(COLUMNS)}; "
            f"missing {missing}, unexpected {extra}. {PREPARE_CURE}"
        )
    for line, row in enumerate(rows, start=2):
        if len(row) != len(COLUMNS):
            raise ManifestError(
                f"{path}:{line}: {len(row)} fields instead of {len(COLUMNS)}. "
                "Quote fields that hold commas, and remove blank lines."
            )
    if not rows:
        raise ManifestError(f"{path}: a header and no utterance. {PREPARE_CURE}")
    order = [header.index(c) for c in COLUMNS]
    return [tuple(row[i] for i in order) for row in rows]


def _row_errors(texts, classes, path):
    """Messages ``path:line: what, cure`` of the rows that break the schema, the first few."""
    errors, first_line = [], {}
    known = None if classes is None else set(classes)
    for line, row in enumerate(texts, start=2):
        problem = _row_problem(row, known)
        if not problem and row[0] in first_line:
            problem = (
                f"ID {row[0]!r} was used on line {first_line[row[0]]} already. "
                "Give every utterance its own ID."
            )
        first_line.setdefault(row[0], line)
        if problem:
            errors.append(f"{path}:{line}: {problem}")
            if len(errors) == MAX_ERRORS_SHOWN:
                break
    return errors


def _row_problem(row, known_emotions):
    """What is wrong with one row and the cure, or the empty string."""
    name, duration, wav, start, stop, _, emotion = row[:7]
    if not name.strip():
        return "the ID is empty. Give every utterance its own ID."
    if any("\n" in field or "\r" in field for field in row):
        return f"a field of {name!r} holds a line break. Remove it."
    if not _is_positive(duration):
        return f"duration {duration!r} is not a positive number of seconds. Measure it again."
    relative = wav[len(ROOT_PREFIX) :]
    if not relative:
        return f"wav is empty. Write {ROOT_PREFIX}path/of/the/file.wav."
    if not wav.startswith(ROOT_PREFIX) or "\\" in wav or relative.startswith("/"):
        return f"wav {wav!r} must be {ROOT_PREFIX}relative/path with forward slashes. Rewrite it."
    if ".." in relative.split("/"):
        return f"wav {wav!r} leaves the data root. Choose a data root that holds all the audio."
    if not _is_span(start, stop):
        return f"start,stop {start!r},{stop!r} are no samples (0 <= start < stop, or stop -1). Fix."
    if known_emotions is not None and emotion not in known_emotions:
        return (
            f"emotion {emotion!r} is none of {sorted(known_emotions)}. "
            "Drop the row or give the recipe its class."
        )
    return ""


def _is_positive(text):
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _is_span(start, stop):
    try:
        start, stop = int(start), int(stop)
    except ValueError:
        return False
    return start >= 0 and (stop == -1 or stop > start)


def _joined(errors):
    return "\n".join(errors)
