"""Reading the headers of many audio files in parallel, and, when asked, decoding them all.

``.wav`` headers are parsed here, straight from the RIFF chunks (no library call: 147,025 files
take seconds on a warm disk); everything else, and unusual wavs, go through soundfile. Files that
are no audio (git-lfs pointers, empty or truncated files, macOS's ``._*`` companions) come back with
a `problem` instead of an exception, so that a preparer can name them all in one run.
"""

import hashlib
import os
import struct
import time
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
from tqdm import tqdm

AUDIO_EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au")
SILENCE_PEAK = 1e-4  # -80 dB below full scale, about 3 steps of 16 bit (ours)
CHUNK = 64  # files a thread takes at once
WAITING = 2e-4  # seconds a header takes from which on the disk is waited for (warm: 1e-5)
BLOCK = 1 << 16  # samples decoded at once
APPLE_DOUBLE = "AppleDouble file of macOS, no audio"
LFS_MARK = b"version https://git-lfs"
LFS_CURE = "a git-lfs pointer, not audio: run `git lfs install && git lfs pull` in the corpus"
SIMPLE_FORMATS = {1, 3, 6, 7, 0xFFFE}  # PCM, float, A-law, mu-law, extensible: constant block size
STREAMED = 0x7FFFF000  # sizes from here on are place-holders of writers that could not seek back


class AudioFile(NamedTuple):
    """A file found under the data root; `path` is relative, with forward slashes."""

    path: str
    size: int
    mtime_ns: int


class Header(NamedTuple):
    """What a file's header tells; `problem` is empty for good files.

    `digest` (SHA-256 of the bytes) and `peak` (largest distance from the mean, full scale 1) are
    known after a verification only.
    """

    sample_rate: int = 0
    channels: int = 0
    frames: int = 0
    problem: str = ""
    digest: str = ""
    peak: float = -1.0

    @property
    def duration(self):
        """Seconds."""
        return self.frames / self.sample_rate if self.sample_rate else 0.0


def find_audio(root, extensions=AUDIO_EXTENSIONS):
    """All audio files under `root`, sorted by relative path; links are followed once.

    Parameters
    ----------
    root : str or Path
    extensions : tuple of str
        With the dot, in lower case; names are compared without regard to case.

    Returns
    -------
    files : list of AudioFile
    left_out : list of (relative path, reason)
        macOS's AppleDouble companions ``._name.wav``, which look like audio and are not.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder. Give the corpus's folder as data_folder.")
    extensions = tuple(extensions)
    files, left_out, seen, waiting = [], [], set(), [("", str(root))]
    while waiting:
        prefix, folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    waiting.append((f"{prefix}{entry.name}/", entry.path))
                elif entry.name.lower().endswith(extensions):
                    if entry.name.startswith("._"):
                        left_out.append((prefix + entry.name, APPLE_DOUBLE))
                    else:
                        files.append(_audio_file(prefix, entry, left_out))
    return sorted(file for file in files if file), sorted(left_out)


def _audio_file(prefix, entry, left_out):
    try:
        status = entry.stat()
    except OSError:
        left_out.append((prefix + entry.name, "broken link"))
        return None
    return AudioFile(prefix + entry.name, status.st_size, status.st_mtime_ns)


def read_header(path):
    """The `Header` of one file; never raises for a bad file, says what is wrong in `problem`."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(256)
            if size == 0:
                return Header(problem="empty file")
            if start.startswith(LFS_MARK):
                return Header(problem=LFS_CURE)
            if start[:4] == b"\x00\x05\x16\x07":
                return Header(problem=APPLE_DOUBLE)
            if start[:4] == b"RIFF" and start[8:12] == b"WAVE":
                header = _riff_header(file, start, size)
                if header is not None:
                    return header
        return _soundfile_header(path)
    except OSError as error:
        return Header(problem=f"unreadable: {error.strerror or error}")


def _riff_header(file, start, size):
    """Walk the RIFF chunks up to `data`; None for formats that only a decoder can measure."""
    position, block, rate, channels = 12, 0, 0, 0
    while position + 8 <= size:
        name, length = struct.unpack("<4sI", _bytes_at(file, start, position, 8))
        if name == b"fmt ":
            if length < 16 or position + 24 > size:
                return Header(problem="unreadable: damaged fmt chunk")
            fields = struct.unpack("<HHIIH", _bytes_at(file, start, position + 8, 14))
            if fields[0] not in SIMPLE_FORMATS:
                return None
            channels, rate, block = fields[1], fields[2], fields[4]
        elif name == b"data":
            return _data_header(length, size - position - 8, rate, channels, block)
        position += 8 + length + (length & 1)
    return Header(problem="unreadable: no data chunk, the file is cut off or damaged")


def _bytes_at(file, start, position, count):
    if position + count <= len(start):
        return start[position : position + count]
    file.seek(position)
    return file.read(count)


def _data_header(promised, held, rate, channels, block):
    """The header once `data` is found: `promised` bytes by the chunk, `held` by the file."""
    if not (rate and channels and block):
        return Header(problem="unreadable: no fmt chunk before the data")
    if promised >= STREAMED and promised > held:
        promised = held
    if promised > held:
        return Header(
            problem=f"truncated: {held // block} of {promised // block} samples are in the file"
        )
    frames = promised // block
    return Header(rate, channels, frames, "" if frames else "empty: a header and no sample")


def _soundfile_header(path):
    try:
        info = sf.info(str(path))
    except (sf.LibsndfileError, RuntimeError, TypeError) as error:
        return Header(problem=f"unreadable: {_reason(error)}")
    problem = "" if info.frames > 0 else "empty: a header and no sample"
    return Header(info.samplerate, info.channels, info.frames, problem)


def _reason(error):
    """libsndfile's message without the path in front of it."""
    text = getattr(error, "error_string", None) or str(error)
    return text.strip().splitlines()[-1] if text.strip() else type(error).__name__


def verify_file(path):
    """Decode and hash one file: its `Header` with digest and peak, or with a problem.

    Finds what headers cannot tell: silent files, compressed files that end early, samples that
    are not finite.
    """
    header = read_header(path)
    if header.problem:
        return header
    header = header._replace(digest=_digest(path))
    try:
        frames, low, high = _decode(path)
    except (sf.LibsndfileError, RuntimeError) as error:
        return header._replace(problem=f"unreadable: {_reason(error)}")
    if frames < header.frames:
        problem = f"truncated: {frames} of {header.frames} samples can be decoded"
        return header._replace(problem=problem)
    if not np.isfinite([low, high]).all():
        return header._replace(problem="samples that are not finite")
    peak = (high - low) / 2
    problem = f"silent: peak {peak:.1e} of full scale" if peak < SILENCE_PEAK else ""
    return header._replace(peak=peak, problem=problem)


def _digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _decode(path):
    """Number of frames that decode, and the lowest and highest sample."""
    frames, low, high = 0, np.inf, -np.inf
    with sf.SoundFile(str(path)) as sound:
        while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
            frames += len(block)
            # min and max hand NaN on, np.minimum too
            low, high = np.minimum(low, block.min()), np.maximum(high, block.max())
    return frames, float(low), float(high)


def read_headers(root, paths, *, verify=False, workers=None, description="headers"):
    """Headers of many files, in the order given, in threads and with a progress bar.

    Parameters
    ----------
    root : str or Path
    paths : sequence of str
        Relative to `root`.
    verify : bool
        Decode and hash every file.
    workers : int, optional
        Threads; default 4 for headers (they wait for the disk), one a core for decoding.

    Returns
    -------
    list of Header

    Notes
    -----
    Headers that nobody waits for are read by one thread: several would take five times as long,
    since each must hold Python's lock for most of its work. The first slow chunk ends that.
    """
    root, paths = str(root), list(paths)
    one = verify_file if verify else read_header
    workers = workers or ((os.cpu_count() or 1) if verify else 4)
    size = 4 if verify else CHUNK
    chunks = deque(paths[i : i + size] for i in range(0, len(paths), size))

    def chunk_headers(chunk):
        return [one(os.path.join(root, path)) for path in chunk]

    headers, waits = [], verify
    with tqdm(total=len(paths), desc=description, unit=" files", mininterval=0.5) as bar:
        while chunks and not waits:
            chunk, began = chunks.popleft(), time.perf_counter()
            headers.extend(chunk_headers(chunk))
            bar.update(len(chunk))
            waits = time.perf_counter() - began > WAITING * len(chunk)
        with ThreadPoolExecutor(workers) as pool:
            for part in pool.map(chunk_headers, chunks):
                headers.extend(part)
                bar.update(len(part))
    return headers


def identical_files(paths, headers):
    """Groups of paths whose bytes are the same, after a verification.

    Examples
    --------
    >>> same, other = Header(digest="f00"), Header(digest="ba5")
    >>> identical_files(["a.wav", "b.wav", "c.wav"], [same, other, same])
    [('a.wav', 'c.wav')]
    """
    groups = defaultdict(list)
    for path, header in zip(paths, headers, strict=True):
        if header.digest:
            groups[header.digest].append(path)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)
