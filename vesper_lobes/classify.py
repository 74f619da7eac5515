"""Classify files and folders from the command line.

Quick start::

    python -m vesper_lobes.classify speech.wav recordings/ --model exported_folder --csv out.csv

Folders are searched through all levels for audio (wav, flac, mp3, ogg, ...); files of any sample
rate and number of channels are read. A file that cannot be classified is reported and the others
go on; the exit code is 0 if all were classified, 1 if some were not, 2 if nothing could be started.

Audio longer than the model's crop is cut into equal pieces whose frames are averaged, or only its
beginning is heard, as the model's classifier.json says (``long_audio``); without a crop it is heard
in windows. Memory stays that of a minute of speech, and files above a minute are named.
"""

import argparse
import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from vesper_lobes.audio import read_audio
from vesper_lobes.export import load_classifier
from vesper_lobes.lengths import SAMPLE_RATE
from vesper_lobes.long_audio import LONG_SECONDS

SUFFIXES = set(".wav .flac .mp3 .ogg .oga .opus .aif .aiff .au .w64 .caf".split())


class Row(NamedTuple):
    """One file's result: a label and probabilities, or an error."""

    file: str
    seconds: float | None
    label: str
    probabilities: list
    error: str


def find_audio(paths):
    """Files as given (whatever their name), and the audio below folders.

    Arguments
    ---------
    paths : list of str or pathlib.Path

    Returns
    -------
    list of pathlib.Path
        In the order given, folders sorted; none twice. Missing files are kept, to be reported.

    Example
    -------
    >>> [str(path) for path in find_audio(["a.wav", "b.wav", "a.wav"])]
    ['a.wav', 'b.wav']
    """
    found = {}
    for path in map(Path, paths):
        if not path.is_dir():
            found[path] = None
            continue
        inside = (Path(root) / name for root, _, names in os.walk(path) for name in names)
        found.update({file: None for file in sorted(inside) if file.suffix.lower() in SUFFIXES})
    return list(found)


def classify_files(model, files, batch_size=8, progress=True):
    """Classify files; an error costs that file only.

    Arguments
    ---------
    model : EmotionClassifier
    files : list of pathlib.Path
    batch_size : int
    progress : bool
        Show a bar on standard error.

    Yields
    ------
    Row
        In the order of the files.
    """
    bar = tqdm(total=len(files), unit="file", disable=not progress, dynamic_ncols=True)
    with bar:
        for first in range(0, len(files), batch_size):
            rows = _classify_batch(model, files[first : first + batch_size])
            bar.update(len(rows))
            yield from rows


def _classify_batch(model, files):
    """Read, classify together; one by one if that fails, so that each error finds its file."""
    rows, wavs = {}, {}
    for file in files:
        try:
            wavs[file] = read_audio(file)
        except (ValueError, OSError) as error:
            rows[file] = Row(str(file), None, "", [], str(error))
            continue
        seconds = len(wavs[file]) / SAMPLE_RATE
        if seconds > LONG_SECONDS:
            tqdm.write(f"{file}: {model.embedding_model.how_heard(seconds)}", file=sys.stderr)
    for group in (list(wavs), *([file] for file in wavs)):
        waiting = [file for file in group if file not in rows]
        if not waiting:
            continue
        try:
            audio = [wavs[file] for file in waiting]
            labels, probabilities = model.classify(audio, batch_size=len(audio))
        except (ValueError, RuntimeError) as error:  # RuntimeError: out of memory
            if len(group) == 1:
                reason = str(error).removeprefix("waveform 0: ")
                seconds = len(wavs[group[0]]) / SAMPLE_RATE
                rows[group[0]] = Row(str(group[0]), seconds, "", [], f"{group[0]}: {reason}")
            continue
        for file, label, row in zip(waiting, labels, probabilities.tolist(), strict=True):
            rows[file] = Row(str(file), len(wavs[file]) / SAMPLE_RATE, label, row, "")
    return [rows[file] for file in files]


def write_csv(rows, classes, path):
    """Columns file, seconds, label, p_<class>..., error; written to a temporary name, then moved.

    Arguments
    ---------
    rows : list of Row
    classes : list of str
    path : str or pathlib.Path
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = [f"p_{name}" for name in classes]
            writer.writerow(["file", "seconds", "label", *columns, "error"])
            for row in rows:
                seconds = "" if row.seconds is None else f"{row.seconds:.3f}"
                shares = [f"{p:.6f}" for p in row.probabilities] or [""] * len(classes)
                writer.writerow([row.file, seconds, row.label, *shares, row.error])
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _line(row, classes):
    """file, label and probabilities as one line of standard output."""
    pairs = zip(classes, row.probabilities, strict=True)
    shares = "  ".join(f"{name}={share:.3f}" for name, share in pairs)
    return f"{row.file}\t{row.label}\t{shares}"


def _arguments(argv):
    parser = argparse.ArgumentParser(
        prog="python -m vesper_lobes.classify",
        description="Label the emotion of speech files, with a probability for each class.",
    )
    parser.add_argument("paths", nargs="+", metavar="FILE|FOLDER", help="audio; folders in depth")
    parser.add_argument("--model", required=True, help="exported folder (reads no code from it)")
    parser.add_argument("--csv", metavar="OUT", help="write a table here instead of printing lines")
    parser.add_argument("--batch-size", type=int, default=8, help="files in one pass (default 8)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: the GPU if there is one)")
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 1:
        parser.error("--batch-size is at least 1")
    if arguments.csv and not Path(arguments.csv).absolute().parent.is_dir():
        parser.error(f"--csv: no folder {Path(arguments.csv).absolute().parent}")
    return arguments


def main(argv=None):
    """Run the command line; returns the exit code."""
    arguments = _arguments(argv)
    files = find_audio(arguments.paths)
    if not files:
        print(f"no audio below {', '.join(arguments.paths)}", file=sys.stderr)
        return 2
    try:
        model = load_classifier(arguments.model, arguments.device)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"cannot use the model: {error}", file=sys.stderr)
        return 2
    rows, interrupted = [], False
    try:
        for row in classify_files(model, files, arguments.batch_size):
            rows.append(row)
            if not arguments.csv and not row.error:
                tqdm.write(_line(row, model.classes), file=sys.stdout)
    except KeyboardInterrupt:
        interrupted = True
    if arguments.csv:
        write_csv(rows, model.classes, arguments.csv)
    failed = [row for row in rows if row.error]
    for row in failed:
        print(f"error: {row.error}", file=sys.stderr)
    done = len(rows) - len(failed)
    end = f", stopped after {len(rows)}" if interrupted else ""
    print(f"{done} of {len(files)} files classified, {len(failed)} failed{end}", file=sys.stderr)
    if interrupted:
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
