#!/usr/bin/env python3
"""How fast preparers read headers, on wav files generated for the purpose and a warm disk.

    python benchmarks/headers.py [--files 20000] [--runs 7] [--json OUT]

Peer in the same run, alternating: soundfile's own reading of the same headers. The files are sparse
(a header and a hole of the length it states), so nothing but headers can be measured.
"""

import argparse
import json
import os
import statistics
import struct
import tempfile
import time
from pathlib import Path

import soundfile

from data_prep.headers import read_headers


def write_sparse_wav(path, frames, rate=16000):
    """A 16-bit mono wav of silence that takes one block of disk."""
    size = 2 * frames
    header = struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE")
    header += struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    with open(path, "wb") as file:
        file.write(header + struct.pack("<4sI", b"data", size))
        file.truncate(44 + size)


def seconds_of(work):
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(root, names, runs):
    """Files a second of ours and of soundfile, in turn: two lists."""

    def ours():
        headers = read_headers(root, names)
        assert all(header.frames for header in headers)

    def peer():
        assert all(soundfile.info(os.path.join(root, name)).frames for name in names)

    ours(), peer()  # warm the disk
    pairs = [(seconds_of(ours), seconds_of(peer)) for _ in range(runs)]
    return [[len(names) / seconds for seconds in times] for times in zip(*pairs, strict=True)]


def main():
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        names = [f"{i:06d}.wav" for i in range(arguments.files)]
        for index, name in enumerate(names):
            write_sparse_wav(Path(root) / name, 16000 + index)
        rates = dict(
            zip(("headers.py", "soundfile"), measure(root, names, arguments.runs), strict=True)
        )
    rows = [
        {
            "reader": reader,
            "files_per_second": {
                "median": round(statistics.median(values)),
                "min": round(min(values)),
                "max": round(max(values)),
            },
        }
        for reader, values in rates.items()
    ]
    ratio = rows[0]["files_per_second"]["median"] / rows[1]["files_per_second"]["median"]
    result = {"files": arguments.files, "cores": os.cpu_count(), "rows": rows, "ratio": ratio}
    for row in rows:
        speed = row["files_per_second"]
        spread = f"[{speed['min']:,}, {speed['max']:,}]"
        print(f"{row['reader']:<12} {speed['median']:>8,} files/s {spread}")
    print(f"ratio {ratio:.1f}")
    if arguments.json:
        text = json.dumps(result, indent=1) + "\n"
        temporary = Path(f"{arguments.json}.tmp")
        temporary.write_text(text)
        os.replace(temporary, arguments.json)


if __name__ == "__main__":
    main()
