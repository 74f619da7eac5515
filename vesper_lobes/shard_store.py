"""Arrays of one shape on disk, found by key; grows in shards that appear whole or not at all.

A shard is ``<name>.npy`` (n, ...) and ``<name>.json`` with its n keys. The array is written first
and the index last, each under a temporary name: a process that is killed at any moment leaves
shards that are whole, and leftovers that are never read. Several processes may write at once.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)


class ShardStore:
    """Float32 arrays by key.

    Arguments
    ---------
    folder : str or pathlib.Path
        Made if it is not there.
    shape : tuple of int
        Of each array.

    Example
    -------
    >>> import tempfile
    >>> store = ShardStore(tempfile.mkdtemp(), shape=(2,))
    >>> store.add(["a", "b"], np.array([[1, 2], [3, 4]]))
    >>> store.take(["b"])
    array([[3., 4.]], dtype=float32)
    >>> "c" in store
    False
    """

    def __init__(self, folder, shape):
        self.folder = Path(folder)
        self.shape = tuple(shape)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.places = {}  # key -> (name of its shard, row in it)
        self.known = set()
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

    def add(self, keys, arrays):
        """Write one shard.

        Arguments
        ---------
        keys : list of str (n,)
        arrays : array (n, *shape)
        """
        arrays = np.ascontiguousarray(arrays, dtype=np.float32)
        if arrays.shape != (len(keys), *self.shape):
            raise ValueError(f"{len(keys)} arrays of shape {self.shape} due, not {arrays.shape}")
        name = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:24]
        _write(self.folder / f"{name}.npy", lambda file: np.save(file, arrays))
        index = json.dumps({"keys": list(keys)}).encode()
        _write(self.folder / f"{name}.json", lambda file: file.write(index))
        self._register(name, keys)

    def take(self, keys):
        """Arrays of some keys, in their order, read from the shards' memory maps.

        Returns
        -------
        array (n, *shape), float32
            A copy.

        Raises
        ------
        KeyError
            For a key that is not stored.
        """
        out = np.empty((len(keys), *self.shape), dtype=np.float32)
        by_shard = {}
        for i, key in enumerate(keys):
            name, row = self.places[key]
            wanted, rows = by_shard.setdefault(name, ([], []))
            wanted.append(i)
            rows.append(row)
        for name, (wanted, rows) in by_shard.items():
            out[wanted] = self._map(name)[rows]
        return out

    def _map(self, name):
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")  # never a pickle

    def _take_up(self, index):
        """Register a shard if index and array fit each other, else leave it unread."""
        try:
            keys = json.loads(index.read_bytes())["keys"]
            array = self._map(index.stem)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged and will be made again: %s", index, error)
            return
        if array.shape == (len(keys), *self.shape) and array.dtype == np.float32:
            self._register(index.stem, keys)
        else:
            logger.warning("%s does not fit its array and will be made again", index)

    def _register(self, name, keys):
        self.known.add(name)
        self.places.update((key, (name, row)) for row, key in enumerate(keys))


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
