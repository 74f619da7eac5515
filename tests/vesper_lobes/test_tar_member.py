"""Files read in place inside a tar: the same samples and hashes as outside."""

import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vesper_lobes.audio import read_audio
from vesper_lobes.cache_keys import audio_keys
from vesper_lobes.pretrain_data import CropReader
from vesper_lobes.tar_member import TarMember, tar_member

KINDS = {"wav": 44100, "flac": 16000, "ogg": 16000, "mp3": 16000}


@pytest.fixture
def packed(tmp_path):
    """Files of four kinds, and their addresses in a tar."""
    random = np.random.default_rng(0)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind, rate in KINDS.items():
            soundfile.write(tmp_path / f"a.{kind}", 0.1 * random.standard_normal(2 * rate), rate)
            tar.add(tmp_path / f"a.{kind}", f"a.{kind}")
    with tarfile.open(tmp_path / "a.tar") as tar:
        places = {m.name: (m.offset_data, m.offset_data + m.size) for m in tar}
    return {
        str(tmp_path / name): f"{tmp_path / 'a.tar'}[{first}:{end}]"
        for name, (first, end) in places.items()
    }


def test_the_same_samples_whole_and_in_part(packed):
    for path, address in packed.items():
        assert torch.equal(read_audio(path), read_audio(address))
        assert torch.equal(read_audio(path, 5000, 9000), read_audio(address, 5000, 9000))
        assert torch.equal(CropReader(0.5, 1)("a", path), CropReader(0.5, 1)("a", address))


def test_threads_share_an_open_tar(packed):
    path, address = next(iter(packed.items()))
    with ThreadPoolExecutor(8) as pool:
        parts = [pool.submit(read_audio, address, k * 1000, k * 1000 + 3000) for k in range(40)]
        for k, part in enumerate(parts):
            assert torch.equal(part.result(), read_audio(path, k * 1000, k * 1000 + 3000))


def test_a_hash_does_not_know_where_the_bytes_lie(packed):
    def keys(wavs):
        rows = {"ID": [str(k) for k in range(len(wavs))], "wav": wavs, "start": 0, "stop": -1}
        return audio_keys(pd.DataFrame(rows))

    assert keys(list(packed)) == keys(list(packed.values()))


def test_what_is_not_there_is_named(packed, tmp_path):
    tar = tmp_path / "a.tar"
    with pytest.raises(ValueError, match="b.tar: no such shard"):
        tar_member(f"{tmp_path}/b.tar[0:9]")
    with pytest.raises(ValueError, match="a.tar: .* copy it again"):
        TarMember(str(tar), 0, tar.stat().st_size + 1)
    with pytest.raises(ValueError, match=r"a.tar\[0:900\]: these bytes of the shard"):
        read_audio(f"{tar}[0:900]")
