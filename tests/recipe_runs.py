"""Launch emotion recipes in this process, with tiny random encoders, for tests."""

import contextlib
import logging
import sys
from pathlib import Path

import torch

from data_prep.manifest import read_manifest
from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.config import EncoderConfig
from vesper_lobes.emotion_brain import EmotionBrain
from vesper_lobes.emotion_run import run_recipe
from vesper_lobes.encoder import Encoder

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
TINY = dict(
    hidden_size=32,
    num_attention_heads=4,
    intermediate_size=48,
    conv_dim=(16,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)


def save_tiny_encoder(folder, layers=2):
    """A random encoder in a folder; the same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(layers)
        encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=layers, **TINY))
    save_encoder(encoder, folder)
    return folder


@contextlib.contextmanager
def kept_logging():
    """SpeechBrain replaces the root logger's handlers and the exception hook: put them back."""
    handlers, level, hook = logging.root.handlers[:], logging.root.level, sys.excepthook
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        sys.excepthook = hook


def launch(recipe, config, *options, epochs=2, allow_partial=True):
    """``run_recipe`` on ``recipes/<recipe>/emotion/hparams/<config>.yaml``; its metrics."""
    argv = [str(RECIPES / recipe / "emotion" / "hparams" / f"{config}.yaml")]
    argv += ["--number_of_epochs", str(epochs), "--allow_partial", str(allow_partial)]
    argv += ["--device", "cpu"]
    with kept_logging():
        return run_recipe([*argv, *map(str, options)], EmotionBrain, read_manifest)
