"""What all preparers have in common: find, describe, measure, check, write, and know what is stale.

A preparer gives `prepare` a function that tells, from a file's relative path, the utterance's
fields or the reason to leave it out, and a function that makes the folds. The rest is here, once.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from data_prep.folds import ProtocolError, check_folds, fold_paths, write_folds
from data_prep.headers import AUDIO_EXTENSIONS, find_audio, identical_files, read_headers
from data_prep.manifest import (
    ManifestError,
    options_hash,
    read_manifest,
    wav_field,
    write_atomic,
    write_manifest,
    write_summary,
)

SHORTEST = 0.025  # seconds: one frame of the encoders (400 samples at 16 kHz)
STAMP = ".prepared.json"  # of this machine only: modification times and checksums


class PreparationError(ValueError):
    """A corpus that is not what it should be; the text says what to do about it."""


class Prepared(NamedTuple):
    """Paths of a prepared corpus."""

    manifest: Path
    folds: tuple  # of FoldPaths(train, dev, test), fold 1 first; empty without labels
    summary: Path


def prepared_paths(save_folder, protocol=None):
    """The paths that a preparer wrote before, for processes that did not run it themselves."""
    save_folder = Path(save_folder)
    folds = fold_paths(save_folder, protocol) if protocol else ()
    return Prepared(save_folder / "manifest.csv", folds, save_folder / "summary.json")


def prepare(
    *,
    corpus,
    data_folder,
    save_folder,
    options,
    describe,
    make_folds=None,
    protocol=None,
    disjoint="speaker",
    expected=None,
    allow_partial=False,
    keep_silent=(),
    remark=None,
    inputs=(),
    missing=(),
    extensions=AUDIO_EXTENSIONS,
    found=None,
    verify=False,
    workers=None,
):
    """Prepare one corpus; nothing is done again while options, files and outputs are unchanged.

    Parameters
    ----------
    corpus : str
        Its name, the manifest's last column.
    data_folder, save_folder : str or Path
        The corpus's root, and where to write.
    options : dict
        Plain JSON values that decide what comes out, without `protocol`.
    describe : callable
        Relative path -> dict of manifest fields (ID, speaker, emotion, ...), or a str: the reason
        to leave the file out; or a list of those, one for each utterance in the file.
    make_folds : callable, optional
        (manifest, protocol) -> list of Fold.
    protocol : str, optional
        Which folds to make; None makes none.
    disjoint : str or None
        What no two sets share under protocol B; see `folds.check_folds`.
    expected : dict, optional
        What the full corpus has: ``{"clips": int}`` and, if wanted, ``{"classes": {name: int}}``.
    allow_partial : bool
        Go on with fewer clips than `expected`.
    keep_silent : container of str
        IDs that stay in although a verification finds them silent.
    remark : callable, optional
        A row's fields -> a text worth knowing about a clip that stays in, or "": the summary
        lists them.
    inputs : sequence of Path
        Label files that, changed, make the outputs stale.
    missing : sequence of (name, reason)
        Clips that the labels name and the disk does not have.
    extensions : tuple of str
    found : (list of AudioFile, list of (path, reason)), optional
        Instead of searching `data_folder`.
    verify : bool
        Decode and hash every file.
    workers : int, optional

    Returns
    -------
    Prepared

    Raises
    ------
    PreparationError, ManifestError, ProtocolError, FileNotFoundError
        Each says what is wrong and what to do.
    """
    save_folder = Path(save_folder)
    files, left_out = found if found is not None else find_audio(data_folder, extensions)
    options = {"corpus": corpus, "verify": bool(verify), **options}
    key = {"options": options_hash(options), "files": _files_hash(files, inputs)}
    stamp = _read_stamp(save_folder, key)
    if stamp and (protocol is None or protocol in stamp["protocols"]):
        return prepared_paths(save_folder, protocol)
    if not files:
        raise PreparationError(
            f"{data_folder}: no audio file ({', '.join(extensions)}) in here. "
            f"Give the folder that holds {corpus}'s audio as data_folder."
        )

    rows, skipped = _described(files, describe)
    paths = list(dict.fromkeys(path for path, _ in rows))
    headers = read_headers(data_folder, paths, verify=verify, workers=workers, description=corpus)
    by_path = dict(zip(paths, headers, strict=True))
    rows, broken = _measured(rows, by_path, corpus, keep_silent)
    left_out = [*left_out, *skipped, *broken, *missing]
    status = _status(rows, left_out, expected, allow_partial, corpus, data_folder)

    manifest_path = save_folder / "manifest.csv"
    if not stamp:
        _forget(save_folder)
    write_manifest(rows, manifest_path)
    manifest = read_manifest(manifest_path)
    protocols = dict(stamp["protocols"]) if stamp else {}
    if protocol:
        protocols[protocol] = _write_protocol(manifest, make_folds, protocol, disjoint, save_folder)
    extra = {
        "status": status,
        "expected": expected or {},
        "protocols": protocols,
        "remarks": {row["ID"]: remark(row) for row in rows if remark(row)} if remark else {},
    }
    if verify:
        extra["identical_files"] = identical_files(paths, headers)
    write_summary(
        save_folder / "summary.json",
        manifest,
        corpus=corpus,
        options=options,
        left_out=left_out,
        **extra,
    )
    _write_stamp(save_folder, key, protocols)
    return prepared_paths(save_folder, protocol)


def _described(files, describe):
    """Pairs (path, fields) of the files to keep, and (path, reason) of the others."""
    rows, left_out, owner = [], [], {}
    for path, fields in _utterances(files, describe):
        if isinstance(fields, str):
            left_out.append((path, fields))
        elif fields["ID"] in owner:
            left_out.append((path, f"{fields['ID']} a second time, first {owner[fields['ID']]}"))
        else:
            owner[fields["ID"]] = path
            rows.append((path, fields))
    return rows, left_out


def _utterances(files, describe):
    """Pairs (path, description), several for a file that holds several utterances."""
    for file in files:
        described = describe(file.path)
        for one in described if isinstance(described, list) else [described]:
            yield file.path, one


def _measured(rows, headers, corpus, keep_silent):
    """Manifest rows of the good files, and (path, reason) of the bad ones."""
    good, left_out = [], []
    for path, fields in rows:
        header = headers[path]
        problem = header.problem
        if problem.startswith("silent") and fields["ID"] in keep_silent:
            problem = ""
        start, stop = fields.get("start", 0), fields.get("stop", -1)
        end = header.frames if stop == -1 else stop
        duration = (end - start) / header.sample_rate if header.sample_rate else 0.0
        if not problem and end > header.frames:
            problem = f"stop {stop} is beyond its {header.frames} samples"
        elif not problem and duration < SHORTEST:
            problem = f"too short: {duration:.4f} s, one frame needs {SHORTEST} s"
        if problem:
            left_out.append((path, problem))
            continue
        good.append({"corpus": corpus, "wav": wav_field(path), "duration": duration, **fields})
    return good, left_out


def _status(rows, left_out, expected, allow_partial, corpus, data_folder):
    """Is it full, partial or unknown? A partial corpus is an error unless it is allowed."""
    if not rows:
        shown = "".join(f"\n  {name}: {reason}" for name, reason in left_out[:5])
        raise PreparationError(f"{data_folder}: no usable clip of {corpus}. Left out:{shown}")
    if not expected:
        return "unknown"
    counts = Counter(row.get("emotion", "") for row in rows)
    if len(rows) == expected["clips"] and counts == expected.get("classes", counts):
        return "full"
    shown = "".join(f"\n  {name}: {reason}" for name, reason in left_out[:5])
    text = (
        f"{data_folder}: {len(rows)} usable clips of {corpus} {dict(sorted(counts.items()))}, "
        f"the full corpus has {expected['clips']} {expected.get('classes', '')}."
        + (f" {len(left_out)} were left out, such as:{shown}" if left_out else "")
    )
    if not allow_partial:
        raise PreparationError(
            f"{text}\nTo use it as it is: allow_partial=True, or --allow_partial. "
            "Scores on a part are not comparable with published ones."
        )
    print(f"partial corpus: {text}", file=sys.stderr)
    return "partial"


def _write_protocol(manifest, make_folds, protocol, disjoint, save_folder):
    """Make, check and write a protocol's folds; return its entry in the summary."""
    folds = make_folds(manifest, protocol)
    warnings = check_folds(folds, protocol, disjoint)
    write_folds(folds, save_folder, protocol)
    sizes = [dict(zip(("train", "dev", "test"), map(len, fold), strict=True)) for fold in folds]
    in_folds = {name for fold in folds for rows in fold for name in rows["ID"]}
    left_out = sorted(set(manifest["ID"]) - in_folds)
    return {"folds": sizes, "warnings": warnings, "in_no_fold": left_out}


def _files_hash(files, inputs):
    """SHA-256 of names, sizes and modification times of the audio and the label files."""
    digest = hashlib.sha256()
    for path, size, mtime in files:
        digest.update(f"{path}\0{size}\0{mtime}\n".encode("utf-8", "surrogateescape"))
    for path in inputs:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _outputs(save_folder):
    """Relative path -> SHA-256 of everything a preparer writes."""
    paths = [save_folder / "manifest.csv", save_folder / "summary.json"]
    paths += sorted((save_folder / "folds").glob("*/fold*.csv"))
    return {
        path.relative_to(save_folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file()
    }


def _read_stamp(save_folder, key):
    """The stamp of an earlier run, if made with this key and if its outputs are untouched."""
    try:
        stamp = json.loads((save_folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = all(stamp.get(name) == value for name, value in key.items())
    return stamp if same and stamp.get("outputs") == _outputs(save_folder) else None


def _forget(save_folder):
    """Remove what older options made: no fold may outlive the manifest it was cut from."""
    for name in (STAMP, "summary.json", "manifest.csv"):
        (save_folder / name).unlink(missing_ok=True)
    shutil.rmtree(save_folder / "folds", ignore_errors=True)


def _write_stamp(save_folder, key, protocols):
    stamp = {**key, "protocols": protocols, "outputs": _outputs(save_folder)}
    write_atomic(save_folder / STAMP, json.dumps(stamp, indent=1, sort_keys=True) + "\n")


def command_parser(description, protocols="AB"):
    """The options that every preparer's command has; `protocols` empty for unlabelled corpora."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_folder", required=True, help="root of the corpus")
    parser.add_argument("--save_folder", required=True, help="where manifest and folds go")
    if protocols:
        parser.add_argument("--protocol", default="B", help=f"one of {', '.join(protocols)}")
    parser.add_argument("--verify", action="store_true", help="decode and hash every file")
    parser.add_argument("--allow_partial", action="store_true", help="accept a part of the corpus")
    parser.add_argument("--workers", type=int, help="threads that read files")
    return parser


def run_command(prepare_corpus, arguments):
    """Call a preparer with parsed arguments, print what it made; the process's exit status."""
    try:
        prepared = prepare_corpus(**vars(arguments))
    except (PreparationError, ManifestError, ProtocolError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    summary = json.loads(prepared.summary.read_text(encoding="utf-8"))
    speakers = len(summary["speakers"].keys() - {"(unknown)"}) or "unknown"
    print(
        f"{summary['corpus']}: {summary['clips']} clips, {speakers} speakers, "
        f"{summary['hours']:.2f} h ({summary['status']}); {len(summary['left_out'])} left out"
    )
    print("classes:", ", ".join(f"{name} {n}" for name, n in summary["classes"].items()))
    for reason, count in summary["left_out_by_reason"].items():
        print(f"left out: {count} x {reason}")
    for name, entry in summary["protocols"].items():
        print(f"protocol {name}: {len(entry['folds'])} folds", *entry["warnings"], sep="\n  ")
    print(f"manifest: {prepared.manifest}\nsummary:  {prepared.summary}")
    return 0
