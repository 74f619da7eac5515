#!/usr/bin/env python3
"""Write a teacher of random weights: for dry runs at full size, and for tests. It knows nothing.

python make_random_teacher.py --config large --save_folder OUT
python train.py hparams/vesper4.yaml --teacher OUT --data_folder /path/to/speech ...
"""

import argparse

import torch

from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder

CONFIGS = {
    "large": EncoderConfig.wavlm_large,
    "base": EncoderConfig.wavlm_base,
    "hubert_large": EncoderConfig.hubert_large,
    "hubert_base": EncoderConfig.hubert_base,
    "mini_large": EncoderConfig.mini_large,
    "mini_base": EncoderConfig.mini_base,
}


def main():
    """Draw, count, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=sorted(CONFIGS), default="large")
    parser.add_argument("--save_folder", required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    encoder = Encoder(CONFIGS[options.config]())
    save_encoder(encoder, options.save_folder)
    print(f"{encoder.num_parameters():,} random parameters in {options.save_folder}")


if __name__ == "__main__":
    main()
