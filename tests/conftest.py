"""Fixtures every test room shares."""

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch

from vesper_lobes.config import EncoderConfig

TINY = dict(
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=48,
    conv_dim=(16,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2,
    num_buckets=32,
    max_bucket_distance=80,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def test_data():
    """Folder with real speech and real labels (environment variable VESPER_TEST_DATA)."""
    folder = os.environ.get("VESPER_TEST_DATA")
    if not folder:
        pytest.skip("VESPER_TEST_DATA is not set: no real speech to test with")
    if not Path(folder).is_dir():
        pytest.skip(f"VESPER_TEST_DATA={folder} is not a folder")
    return Path(folder)


@pytest.fixture
def tiny_config():
    """``tiny_config("wavlm_large" | "wavlm_base" | "hubert_large" | "hubert_base", **changes)``."""

    def build(kind="wavlm_large", **changes):
        return getattr(EncoderConfig, kind)(**{**TINY, **changes})

    return build


@pytest.fixture(scope="module")
def benchmark_script(request):
    """``benchmark_script(name)``: the module ``benchmarks/<name>.py``, forgotten after the file."""
    folder = request.config.rootpath / "benchmarks"
    sys.path.insert(0, str(folder))  # as in `python benchmarks/<name>.py`
    yield importlib.import_module
    sys.path.remove(str(folder))
    for name in {path.stem for path in folder.glob("*.py")} & sys.modules.keys():
        del sys.modules[name]
