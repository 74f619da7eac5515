"""A corpus in a few large tars instead of millions of small files: what a shard folder holds.

shard-000000.tar, ...   webdataset tars: ``000000000.flac``, ``000000000.json``, and so on; the json
                        is the utterance's manifest row
shard-000000.json, ...  written after its tar: bytes, SHA-256, manifest rows; a shard without one
                        does not count as written
manifest.csv            all rows in the one schema; ``wav`` is a place in a tar, its first byte and
                        the one after its last: ``$data_root/shard-000000.tar[512:90112]``
index.json              written last: counts, hours, and each shard's bytes and SHA-256

So a shard folder is a corpus like any other: ``--data_folder FOLDER --manifest
FOLDER/manifest.csv`` works wherever a manifest is taken, and `webdataset.WebDataset` reads the tars
without any of this. `data_prep.write_shards` writes it.
"""

import hashlib
import json
from pathlib import Path

from tqdm import tqdm

from data_prep.manifest import ManifestError, read_manifest

INDEX = "index.json"
MANIFEST = "manifest.csv"
BLOCK = 1 << 20


def shard_name(number):
    """File name of a shard, without its ending.

    Examples
    --------
    >>> shard_name(12)
    'shard-000012'
    """
    return f"shard-{number:06d}"


def read_index(folder):
    """The index of a finished shard folder.

    Returns
    -------
    dict
        utterances, hours, bytes, plan (what was asked for), shards: list of {name, utterances,
        seconds, bytes, sha256}.

    Raises
    ------
    ManifestError
        If writing was not finished, or a shard is missing or of another size.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise ManifestError(
            f"{folder}: no {INDEX}, so this is no shard folder or one that was not finished. Give "
            "the command that wrote it again: python -m data_prep.write_shards ..."
        )
    index = json.loads(path.read_text(encoding="utf-8"))
    for shard in index["shards"]:
        tar = Path(folder) / f"{shard['name']}.tar"
        size = tar.stat().st_size if tar.is_file() else 0
        if size != shard["bytes"]:
            raise ManifestError(f"{tar}: {size} bytes instead of {shard['bytes']}. Copy it again.")
    return index


def read_shards(folder):
    """Manifest rows of a finished shard folder.

    Returns
    -------
    pandas.DataFrame
        As `read_manifest` returns them, sorted by ID; ``wav`` has real paths.

    Raises
    ------
    ManifestError
        See `read_index`; also if the manifest does not hold what the index says.
    """
    index = read_index(folder)
    rows = read_manifest(Path(folder) / MANIFEST, folder)
    if len(rows) != index["utterances"]:
        raise ManifestError(
            f"{folder}/{MANIFEST}: {len(rows)} rows, {INDEX} says {index['utterances']}. Give the "
            "command that wrote the shards again."
        )
    return rows


def verify_shards(folder):
    """Read every shard and compare its SHA-256, as after copying to another machine.

    Raises
    ------
    ManifestError
        Naming the first shard that differs.
    """
    shards = read_index(folder)["shards"]
    for shard in tqdm(shards, desc="Verifying", unit="shard"):
        tar = Path(folder) / f"{shard['name']}.tar"
        if sha256_of(tar) != shard["sha256"]:
            raise ManifestError(f"{tar}: its SHA-256 is not that of {INDEX}. Copy it again.")


def sha256_of(path):
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
