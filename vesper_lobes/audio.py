"""Reading speech: one function from a file (or a part of it) to a 16 kHz mono waveform.

Only soundfile decodes (wav, flac, mp3, ogg and what else libsndfile knows): ``torchaudio.load``
needs torchcodec and ffmpeg, which most machines lack. Whatever cannot be used as speech is refused
with a ``ValueError`` that names the file, because a model returns a label for silence and NaN too.
"""

import os

import soundfile
import torch
from torchaudio.functional import resample

from vesper_lobes.lengths import SAMPLE_RATE
from vesper_lobes.tar_member import tar_member

CROP_RULES = ("first", "centre", "random")
LFS_POINTER_BYTES = 200  # a git-lfs pointer is about 130 bytes of text
LFS_POINTER_START = b"version https://git-lfs"


def read_audio(path, start=0, stop=-1, sample_rate=SAMPLE_RATE):
    """Read a file, or samples ``start`` to ``stop`` of it, as a mono waveform.

    Arguments
    ---------
    path : str or pathlib.Path
        Of a file, or a place in a tar shard (`vesper_lobes.tar_member`).
    start, stop : int
        First sample and the one after the last, at the file's own rate; ``stop=-1``: to the end.
        Only that part is decoded.
    sample_rate : int
        Rate of the result in Hz; files of another rate are resampled (windowed sinc).

    Returns
    -------
    torch.FloatTensor (S,)
        Mean of the channels, not normalised.

    Raises
    ------
    ValueError
        Naming the file: missing, unreadable, a git-lfs pointer, empty, cut short, NaN or infinite
        samples, or a part that lies outside the file.

    Example
    -------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> soundfile.write(path, torch.sin(torch.arange(8000) / 9).numpy(), 8000)
    >>> read_audio(path, start=4000).shape  # half a second, now at 16 kHz
    torch.Size([8000])
    """
    path = os.fspath(path)
    samples, file_rate = _decode(path, int(start), int(stop))  # (S, channels)
    wav = torch.from_numpy(samples).mean(dim=1)  # (S,)
    if wav.numel() == 0:
        raise ValueError(f"{path}: no audio (0 samples)")
    if not torch.isfinite(wav).all():
        raise ValueError(f"{path}: holds NaN or infinite samples")
    if file_rate != sample_rate:
        wav = resample(wav, file_rate, sample_rate)
    return wav


def crop_or_keep(wav, seconds=None, rule="first", sample_rate=SAMPLE_RATE, generator=None):
    """Cut a waveform to at most ``seconds``; shorter ones stay as they are (batches pad later).

    Arguments
    ---------
    wav : torch.Tensor (S,)
    seconds : float, optional
        None keeps everything.
    rule : str
        "first" (the published code's rule for every fixed crop), "centre", or "random".
    sample_rate : int
    generator : torch.Generator, optional
        For "random"; None draws from torch's global state.

    Returns
    -------
    torch.Tensor (min(S, round(seconds * sample_rate)),)
        A view.

    Example
    -------
    >>> crop_or_keep(torch.arange(10.0), seconds=4, rule="centre", sample_rate=1)
    tensor([3., 4., 5., 6.])
    """
    if rule not in CROP_RULES:
        raise ValueError(f"crop rule {rule!r} is unknown: choose one of {CROP_RULES}")
    if seconds is None:
        return wav
    keep = round(seconds * sample_rate)
    if keep < 1:
        raise ValueError(f"a crop of {seconds} s leaves no samples")
    spare = wav.shape[0] - keep
    if spare <= 0:
        return wav
    if rule == "random":
        begin = int(torch.randint(spare + 1, (1,), generator=generator))
    else:
        begin = 0 if rule == "first" else spare // 2
    return wav[begin : begin + keep]


def _decode(path, start, stop):
    """Samples ``start`` to ``stop`` as float32 (S, channels), and the file's rate."""
    member = tar_member(path)
    if member is None and not os.path.isfile(path):
        raise ValueError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(member or path) as file:
            wanted = _part(path, start, stop, file.frames)
            file.seek(wanted.start)
            samples = file.read(len(wanted), dtype="float32", always_2d=True)
            rate = file.samplerate
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise ValueError(_why_unreadable(path, error)) from error
    if len(samples) < len(wanted):
        raise ValueError(f"{path}: cut short, {len(samples)} of {len(wanted)} samples decoded")
    return samples, rate


def _part(path, start, stop, frames):
    end = frames if stop == -1 else stop
    empty_file = frames == 0 and start == 0 and stop == -1  # reported as empty, not as a bad part
    if not empty_file and not 0 <= start < end <= frames:
        raise ValueError(f"{path}: samples {start} to {stop} asked for, the file has {frames}")
    return range(start, end)


def _why_unreadable(path, error):
    if tar_member(path):
        return f"{path}: these bytes of the shard cannot be read as audio ({error})"
    if os.path.getsize(path) == 0:
        return f"{path}: an empty file"
    with open(path, "rb") as file:
        head = file.read(LFS_POINTER_BYTES)
    if os.path.getsize(path) < LFS_POINTER_BYTES and head.startswith(LFS_POINTER_START):
        return f"{path}: a git-lfs pointer, not audio; fetch the file with `git lfs pull`"
    return f"{path}: cannot be read as audio ({error}); wav, flac, mp3 and ogg can"
