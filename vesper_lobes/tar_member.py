"""Audio inside a tar shard, read in place.

A file in an uncompressed tar is a run of bytes. Its address is ``<path>.tar[first:end]``, the
notation of a Python slice over the tar's bytes; `data_prep.write_shards` writes such addresses into
the ``wav`` column of a shard folder's manifest. Whatever takes a row's ``wav`` takes either: crops,
caches and hashes read from shards as they read from files, and only the bytes they need.
"""

import functools
import io
import os
import re

ADDRESS = re.compile(r"(.+\.tar)\[(\d+):(\d+)\]")
OPEN_TARS = 64  # kept open in a process, so that an utterance costs no look-up of a file's name


class TarMember(io.RawIOBase):
    """A read-only, seekable view of bytes ``first`` to ``end`` of a tar.

    Positional reads alone are used, so that threads and forked workers may share an open tar.

    Arguments
    ---------
    tar : str
    first, end : int

    Raises
    ------
    ValueError
        Naming the tar: not there, or shorter than ``end`` (a copy that was cut short).

    Example
    -------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "a.tar")
    >>> with open(path, "wb") as file:
    ...     _ = file.write(b"0123456789")
    >>> member = TarMember(path, 3, 7)
    >>> member.read(), member.seek(-1, 2), member.read()
    (b'3456', 3, b'6')
    """

    def __init__(self, tar, first, end):
        super().__init__()
        try:
            self._tar = _opened(tar)
        except OSError as error:
            raise ValueError(f"{tar}: no such shard can be opened ({error.strerror})") from error
        size = os.fstat(self._tar.fileno()).st_size
        if not 0 <= first < end <= size:
            raise ValueError(f"{tar}: {size} bytes, {first} to {end} asked for: copy it again")
        self._first, self._size, self._place = first, end - first, 0

    def readable(self):
        """True."""
        return True

    def seekable(self):
        """True."""
        return True

    def tell(self):
        """Bytes from the member's start."""
        return self._place

    def seek(self, offset, whence=os.SEEK_SET):
        """Go to a byte of the member; returns where that is."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer):
        """Fill a buffer with what stands here, at most to the member's end."""
        wanted = min(len(buffer), max(0, self._size - self._place))
        place = self._first + self._place
        got = os.preadv(self._tar.fileno(), [memoryview(buffer)[:wanted]], place) if wanted else 0
        self._place += got
        return got


@functools.lru_cache(OPEN_TARS)
def _opened(tar):
    return open(tar, "rb", buffering=0)  # closed when nothing uses it any more


def tar_member(path):
    """The view that an address ``<path>.tar[first:end]`` means; None for any other path.

    Raises
    ------
    ValueError
        Naming the tar: not there, or cut short.

    Example
    -------
    >>> tar_member("speech/a.wav") is None
    True
    """
    member = ADDRESS.fullmatch(os.fspath(path))
    return TarMember(member[1], int(member[2]), int(member[3])) if member else None
