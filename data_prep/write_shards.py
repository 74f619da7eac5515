"""Pack a corpus into webdataset shards, for pretraining on more files than a disk likes.

    python -m data_prep.write_shards --manifest M.csv --data_folder DIR --save_folder OUT
    python -m data_prep.write_shards --verify OUT       # after copying: compares every SHA-256

Several corpora may be given with commas, as to pretraining: IDs then become ``<corpus>/<ID>``.
``--format flac`` (default) writes each utterance as 16 kHz mono flac of 16 bits, cut to its
``start`` and ``stop``: 16-bit speech at 16 kHz stays what it is, sample by sample, and takes a
little more than half the space. ``--format copy`` packs files as they are.

Utterances are shuffled by ``--seed`` before they are dealt to shards, so that every shard is a
sample of the whole; ``--order manifest`` keeps the manifest's order. The same rows and options give
the same bytes. Each shard appears whole or not at all, and the same command goes on after an
interruption; a folder that holds shards of other rows or options is refused. What the folder holds:
:mod:`data_prep.shards`.
"""

import argparse
import hashlib
import io
import json
import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from data_prep.manifest import ManifestError, wav_field, write_atomic, write_manifest
from data_prep.shards import INDEX, MANIFEST, sha256_of, shard_name, verify_shards
from data_prep.speech_sources import read_speech

FORMAT_VERSION = 1
FORMATS = ("flac", "copy")
ORDERS = ("shuffled", "manifest")
RATE = 16000
PCM_BYTES = 2 * RATE  # of a second of 16-bit speech: flac takes less
TAR_BYTES = 2048  # headers of two members and the padding of both, about


def write_shards(
    manifest,
    data_folder,
    save_folder,
    shard_mb=500,
    format="flac",
    order="shuffled",
    seed=0,
    workers=None,
):
    """Write shards, their index and their manifest.

    Parameters
    ----------
    manifest, data_folder : str or list
        As for `data_prep.speech_sources.read_speech`.
    save_folder : str or Path
    shard_mb : float
        Megabytes that a shard holds at most (flac: reckoned as 16-bit PCM, so about half that).
    format, order : str
        Of `FORMATS` and of `ORDERS`.
    seed : int
        Of the order.
    workers : int, optional
        Threads that decode and encode; default one a core.

    Returns
    -------
    dict
        What index.json holds.

    Raises
    ------
    ManifestError
        Rows that cannot be packed, audio that cannot be read (with its name), a folder of other
        shards.
    """
    rows = read_speech(None, data_folder, manifest)
    folder = Path(save_folder)
    if format == "copy":
        _refuse_parts(rows)
    begun = {"version": FORMAT_VERSION, "format": format, "order": order, "seed": seed}
    begun |= {"shard_mb": shard_mb, "utterances": len(rows), "rows": _rows_hash(rows)}
    _begin(folder, begun)
    parts = _deal(rows, shard_mb * 1e6, format, order, seed)
    written = []
    with (
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
        tqdm(total=len(rows), desc="Packing", unit="utt") as bar,
    ):
        for number, part in enumerate(parts):
            shard = _finished(folder, number)
            if shard is None:
                shard = _write_shard(folder, number, rows.iloc[part], format, pool, bar)
            else:
                del shard["rows"]
                bar.update(len(part))
            written.append(shard)
    return _finish(folder, begun, written)


def _refuse_parts(rows):
    parts = rows[(rows["start"] != 0) | (rows["stop"] != -1)]
    if len(parts):
        raise ManifestError(
            f"{len(parts)} utterances are parts of files, such as {parts['ID'].iloc[0]}: --format "
            "copy packs whole files. Take --format flac, which cuts them out."
        )


def _rows_hash(rows):
    """Of what decides the shards' content; not of the folder the audio lies in."""
    digest = hashlib.sha256()
    for row in rows.drop(columns="wav").itertuples(index=False):
        digest.update(repr(tuple(row)).encode())
    return digest.hexdigest()


def _begin(folder, begun):
    """Take note of what is asked for; refuse a folder where something else was begun."""
    plan = folder / "plan.json"
    if plan.is_file():
        before = json.loads(plan.read_text(encoding="utf-8"))
        differing = sorted(key for key in begun if begun[key] != before.get(key))
        if differing:
            raise ManifestError(
                f"{folder}: shards of other {', '.join(differing)} were begun here. Give the same "
                "command as then, or another --save_folder."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ManifestError(f"{folder}: not empty, and no shards. Give another --save_folder.")
    else:
        write_atomic(plan, json.dumps(begun, indent=1) + "\n")


def _deal(rows, shard_bytes, format, order, seed):
    """Row numbers of each shard."""
    numbers = np.arange(len(rows))
    if order == "shuffled":
        numbers = np.random.default_rng(seed).permutation(numbers)
    if format == "flac":
        sizes = rows["duration"].to_numpy() * PCM_BYTES
    else:
        sizes = np.array([_size(*row) for row in rows[["wav", "ID"]].to_numpy()], dtype=float)
    parts, filled = [[]], 0.0
    for number in numbers:
        size = sizes[number] + TAR_BYTES
        if parts[-1] and filled + size > shard_bytes:
            parts.append([])
            filled = 0.0
        parts[-1].append(number)
        filled += size
    return parts


def _size(wav, name):
    try:
        return os.path.getsize(wav)
    except OSError as error:
        raise ManifestError(f"{wav} ({name}): {error.strerror}") from error


def _finished(folder, number):
    """Index of a shard that stands, or None."""
    index, tar = (folder / f"{shard_name(number)}.{ending}" for ending in ("json", "tar"))
    if not index.is_file() or not tar.is_file():
        return None
    shard = json.loads(index.read_text(encoding="utf-8"))
    return shard if shard["bytes"] == tar.stat().st_size else None


def _write_shard(folder, number, rows, format, pool, bar):
    """One tar, then its index."""
    from webdataset import TarWriter  # seconds to import: readers of shards do without

    tar = folder / f"{shard_name(number)}.tar"
    temporary = tar.with_name(f".{tar.name}.{os.getpid()}.tmp")
    records = rows.to_dict("records")
    packed = []
    try:
        with open(temporary, "wb") as file:
            with TarWriter(file, encoder=False, mtime=0) as writer:
                parts = pool.map(lambda record: _encode(record, format), records)
                for key, (record, (ending, audio)) in enumerate(zip(records, parts, strict=True)):
                    record = _shard_row(record, audio if format == "flac" else None)
                    text = {name: value for name, value in record.items() if name != "wav"}
                    text = json.dumps(text, ensure_ascii=False).encode()
                    writer.write({"__key__": f"{key:09d}", ending: audio, "json": text})
                    packed.append(record)
                    bar.update()
            file.flush()
            os.fsync(file.fileno())
        _address(packed, temporary, tar.name)
        shard = _summary(tar.stem, packed, temporary)
        os.replace(temporary, tar)
    finally:
        temporary.unlink(missing_ok=True)
    write_atomic(tar.with_suffix(".json"), json.dumps({**shard, "rows": packed}))
    return shard


def _encode(record, format):
    """Ending and bytes of one utterance's file in the shard."""
    try:
        if format == "copy":
            ending = Path(record["wav"]).suffix[1:].lower() or "audio"
            return ending, Path(record["wav"]).read_bytes()
        return "flac", _flac(record["wav"], record["start"], record["stop"])
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError) as error:
        raise ManifestError(
            f"{record['wav']} ({record['ID']}): cannot be packed: {error}. Repair the file or take "
            "its row out of the manifest."
        ) from error


def _flac(wav, start, stop):
    """Samples start to stop as a 16 kHz mono flac."""
    samples, rate = soundfile.read(
        wav, start=start, stop=None if stop == -1 else stop, dtype="float32", always_2d=True
    )
    samples = samples.mean(axis=1)  # (S,)
    if not len(samples) or not np.isfinite(samples).all():
        raise ValueError("no samples" if not len(samples) else "NaN or infinite samples")
    if rate != RATE:
        samples = _resampled(samples, rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _resampled(samples, rate):
    """To 16 kHz by the windowed sinc that reads other rates everywhere else."""
    import torch
    from torchaudio.functional import resample

    return resample(torch.from_numpy(samples), rate, RATE).numpy()


def _shard_row(record, flac):
    """The manifest row of an utterance in its shard, its place still to come."""
    record = {**record, "start": 0, "stop": -1}
    if flac is not None:
        record["duration"] = soundfile.info(io.BytesIO(flac)).frames / RATE
    return record


def _address(packed, tar, name):
    """Write into each row where its audio lies in the tar."""
    with tarfile.open(tar) as members:
        audio = [member for member in members if not member.name.endswith(".json")]
    for record, member in zip(packed, audio, strict=True):
        first = member.offset_data
        record["wav"] = f"{wav_field(name)}[{first}:{first + member.size}]"


def _summary(name, packed, tar):
    return {
        "name": name,
        "utterances": len(packed),
        "seconds": round(sum(record["duration"] for record in packed), 6),
        "bytes": tar.stat().st_size,
        "sha256": sha256_of(tar),
    }


def _finish(folder, begun, written):
    """The manifest of all shards, then the index that says they are whole."""
    shards = (_finished(folder, number) for number in range(len(written)))
    write_manifest((row for shard in shards for row in shard["rows"]), folder / MANIFEST)
    index = {
        "utterances": sum(shard["utterances"] for shard in written),
        "hours": round(sum(shard["seconds"] for shard in written) / 3600, 4),
        "bytes": sum(shard["bytes"] for shard in written),
        "plan": begun,
        "shards": written,
    }
    write_atomic(folder / INDEX, json.dumps(index, indent=1) + "\n")
    return index


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", help="manifest(s), with commas between")
    parser.add_argument("--data_folder", help="what stands for $data_root: one, or one for each")
    parser.add_argument("--save_folder", help="where shards go")
    parser.add_argument("--shard_mb", type=float, default=500, help="at most (default 500)")
    parser.add_argument("--format", choices=FORMATS, default="flac")
    parser.add_argument("--order", choices=ORDERS, default="shuffled")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--workers", type=int, help="threads; default one a core")
    parser.add_argument("--verify", metavar="OUT", help="only compare the shards' SHA-256")
    options = vars(parser.parse_args(argv))
    verify = options.pop("verify")
    if not verify and not all(options[name] for name in ("manifest", "data_folder", "save_folder")):
        parser.error("give --manifest, --data_folder and --save_folder, or --verify")
    try:
        if verify:
            verify_shards(verify)
        else:
            index = write_shards(**options)
            print("{utterances} utterances, {hours} h, {bytes} bytes".format(**index))
    except ManifestError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
