"""What a cached feature was made of, as hashes: a cache that knows this cannot serve stale data.

Two keys decide. The *settings* key names a cache's folder: weights, crop, normalisation, sample
rate, precision. The *audio* key names an utterance: the bytes of its file and the part that is
read. Neither knows a path, so a corpus may move and two manifests share what they have in common.
"""

import dataclasses
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vesper_lobes.audio import CROP_RULES
from vesper_lobes.lengths import SAMPLE_RATE
from vesper_lobes.tar_member import tar_member

# raise one when forward passes in that precision give other numbers for the same weights
VERSIONS = {"fp32": 1, "bf16": 2}
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class CacheSettings:
    """Everything besides the audio that decides a cached feature.

    Arguments
    ---------
    kind : str
        What is kept of an utterance: "pooled" (time means of all states), or another cache's name.
    weights : str
        Hash of the encoder's weights and configuration.
    do_normalize : bool
        Whether the encoder normalises the waveform.
    crop_seconds : float, optional
        Utterances are cut to this; None keeps them whole (``crop_rule`` then counts for nothing).
    crop_rule : str
        "first" or "centre"; a random crop cannot be cached.
    sample_rate : int
    precision : str
        "fp32" or "bf16".

    Example
    -------
    >>> settings = CacheSettings("pooled", weights="ab", do_normalize=True, crop_seconds=6.5)
    >>> settings.key() == dataclasses.replace(settings, crop_seconds=4.5).key()
    False
    """

    kind: str
    weights: str
    do_normalize: bool
    crop_seconds: float | None = None
    crop_rule: str | None = "first"
    sample_rate: int = SAMPLE_RATE
    precision: str = "fp32"
    version: int | None = None

    def __post_init__(self):
        if self.version is None:
            object.__setattr__(self, "version", VERSIONS.get(self.precision))
        if self.crop_rule == "random":
            raise ValueError("a random crop differs from epoch to epoch and cannot be cached")
        if self.crop_rule not in CROP_RULES and self.crop_seconds is not None:
            raise ValueError(f"crop rule {self.crop_rule!r} is unknown: 'first' or 'centre'")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is unknown: choose one of {PRECISIONS}")
        if self.crop_seconds is None:
            object.__setattr__(self, "crop_rule", None)
        else:
            object.__setattr__(self, "crop_seconds", float(self.crop_seconds))

    def as_dict(self):
        """For a file beside the cache that people can read."""
        return dataclasses.asdict(self)

    def key(self):
        """SHA-256 of all settings, hexadecimal."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def audio_keys(rows, threads=None):
    """One key an utterance: a hash of its file's bytes, its start and its stop.

    Files are read once each, in parallel: hashing releases Python's lock and runs at 0.7 GB/s or
    more a core with SHA instructions.

    Arguments
    ---------
    rows : pandas.DataFrame
        Columns ID, wav (a real path, or a place in a tar shard), start, stop (samples at the
        file's own rate).
    threads : int, optional
        Default: one a core, 8 at most.

    Returns
    -------
    list of str
        In the order of ``rows``.

    Raises
    ------
    ValueError
        Naming the utterance and its file: not there, or ``$data_root`` still in the path.
    """
    names = dict(zip(rows["wav"], rows["ID"], strict=True))  # one ID a file, for the message
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        digests = dict(zip(names, pool.map(_file_digest, names, names.values()), strict=True))
    return [
        hashlib.sha256(f"{digests[wav]} {int(start)} {int(stop)}".encode()).hexdigest()
        for wav, start, stop in zip(rows["wav"], rows["start"], rows["stop"], strict=True)
    ]


def _file_digest(path, name):
    if "$data_root" in str(path):
        raise ValueError(f"{name}: {path}: read the manifest with its data_root")
    member = tar_member(path)
    if member is None and not os.path.isfile(path):
        raise ValueError(f"{name}: {path}: no such file")
    with member or open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
