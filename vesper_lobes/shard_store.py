"""Arrays on disk, found by key; grows in shards that appear whole or not at all.

A key has one row of a shard, or a run of them (the frames of an utterance). A shard is
``<name>.npy`` (rows, ...) and ``<name>.json`` with its keys and their counts of rows. The array is
written first and the index last, each under a temporary name: a process that is killed at any
moment leaves shards that are whole, and leftovers that are never read. Several processes may write
at once.
"""

import functools
import hashlib
import itertools
import json
import logging
import os
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

OPEN_MAPS = 256  # each holds a file open


class ShardStore:
    """Arrays by key, of one row or of many.

    Arguments
    ---------
    folder : str or pathlib.Path
        Made if it is not there.
    shape : tuple of int
        Of each row.
    dtype : numpy.dtype

    Example
    -------
    >>> import tempfile
    >>> store = ShardStore(tempfile.mkdtemp(), shape=(2,))
    >>> store.add(["a", "b"], np.array([[1, 2], [3, 4]]))
    >>> store.take(["b"])
    array([[3., 4.]], dtype=float32)
    >>> store.add(["c"], np.array([[5, 6], [7, 8]]), counts=[2])
    >>> store.runs(["c"])[0].tolist()
    [[5.0, 6.0], [7.0, 8.0]]
    >>> "d" in store
    False
    """

    def __init__(self, folder, shape, dtype=np.float32):
        self.folder = Path(folder)
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.places = {}  # key -> (name of its shard, first row, row after the last)
        self.known = set()
        self._kept_map = functools.lru_cache(OPEN_MAPS)(self._map)
        self.refresh()

    def __contains__(self, key):
        return key in self.places

    def __len__(self):
        return len(self.places)

    def refresh(self):
        """Take up shards that other processes have finished meanwhile."""
        for index in sorted(self.folder.glob("*.json")):
            if index.stem not in self.known:
                self._take_up(index)

    def add(self, keys, arrays, counts=None):
        """Write one shard.

        Arguments
        ---------
        keys : list of str (n,)
        arrays : array (rows, *shape)
            All keys' rows, one key after the other.
        counts : list of int (n,), optional
            Rows of each key; default one.
        """
        arrays = np.ascontiguousarray(arrays, dtype=self.dtype)
        counts = [1] * len(keys) if counts is None else [int(count) for count in counts]
        if len(counts) != len(keys) or arrays.shape != (sum(counts), *self.shape):
            due = f"{sum(counts)} rows of shape {self.shape} for {len(keys)} keys"
            raise ValueError(f"{due} due, not {arrays.shape} for {len(counts)}")
        name = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:24]
        _write(self.folder / f"{name}.npy", lambda file: np.save(file, arrays))
        index = json.dumps({"keys": list(keys), "counts": counts}).encode()
        _write(self.folder / f"{name}.json", lambda file: file.write(index))
        self._register(name, keys, counts)

    def take(self, keys):
        """Rows of some keys that have one each, in their order, read from memory maps.

        Returns
        -------
        array (n, *shape)
            A copy.

        Raises
        ------
        KeyError
            For a key that is not stored.
        """
        out = np.empty((len(keys), *self.shape), dtype=self.dtype)
        by_shard = {}
        for i, key in enumerate(keys):
            name, row, _ = self.places[key]
            wanted, rows = by_shard.setdefault(name, ([], []))
            wanted.append(i)
            rows.append(row)
        for name, (wanted, rows) in by_shard.items():
            out[wanted] = self._map(name)[rows]
        return out

    def runs(self, keys):
        """All rows of each of some keys, left on the disk until they are looked at.

        Returns
        -------
        list of array (rows of the key, *shape)
            Views of memory maps.

        Raises
        ------
        KeyError
            For a key that is not stored.
        """
        return [
            self._kept_map(name)[first:end]
            for name, first, end in (self.places[key] for key in keys)
        ]

    def _map(self, name):
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")  # never a pickle

    def _take_up(self, index):
        """Register a shard if index and array fit each other, else leave it unread."""
        try:
            content = json.loads(index.read_bytes())
            keys = content["keys"]
            counts = content.get("counts", [1] * len(keys))
            rows = sum(counts)
            array = self._map(index.stem)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged and will be made again: %s", index, error)
            return
        fits = len(counts) == len(keys) and array.shape == (rows, *self.shape)
        if fits and array.dtype == self.dtype:
            self._register(index.stem, keys, counts)
        else:
            logger.warning("%s does not fit its array and will be made again", index)

    def _register(self, name, keys, counts):
        self.known.add(name)
        ends = list(itertools.accumulate(counts))
        for key, count, end in zip(keys, counts, ends, strict=True):
            self.places[key] = name, end - count, end


def _write(path, write):
    """Write under a temporary name, push it to the disk, then put it in place in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
