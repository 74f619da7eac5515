"""An exported classifier with random weights, and audio files, for the tests of inference."""

import soundfile
import torch

from vesper_lobes.encoder import Encoder
from vesper_lobes.export import export_classifier
from vesper_lobes.heads import SuperbHead
from vesper_lobes.pooling import LayerMix

CLASSES = ["anger", "happiness", "neutral", "sadness"]


def build_parts(config, mode="weighted_sum", num_classes=4, seed=0):
    """Encoder, layer mix and head, random but lively: the head tells inputs apart."""
    torch.manual_seed(seed)
    encoder = Encoder(config).eval()
    with torch.no_grad():  # the default initialisation is so small that all inputs look alike
        for name, parameter in encoder.encoder.named_parameters():
            if "layers" in name and parameter.dim() == 2:
                parameter.mul_(8)
    mix = LayerMix(config.num_hidden_layers + 1, mode)
    for parameter in mix.parameters():
        torch.nn.init.normal_(parameter)
    head = SuperbHead(config.hidden_size, num_classes)
    torch.nn.init.normal_(head.classifier.weight)
    return encoder, mix, head


def build_export(folder, config, mode="weighted_sum", classes=CLASSES, seed=0, **options):
    """Export random parts; returns the folder."""
    parts = build_parts(config, mode, len(classes), seed)
    return export_classifier(folder, *parts, classes, **options)


def speechlike(seconds=1.0, seed=0, sample_rate=16000):
    """(S,) noise-excited swells, peak .5: not a real voice, but not stationary either."""
    generator = torch.Generator().manual_seed(seed)
    samples = round(seconds * sample_rate)
    time = torch.arange(samples) / sample_rate
    pitch = 100 + 120 * torch.rand(1, generator=generator)
    tone = torch.sin(6.2832 * pitch * time) + torch.sin(6.2832 * 3.1 * pitch * time)
    noise = 0.2 * torch.randn(samples, generator=generator)
    wav = (tone + noise) * (0.3 + torch.sin(6.2832 * 2 * time).abs())
    return 0.5 * wav / wav.abs().max()


def write_audio(path, wav, sample_rate=16000):
    """Write (S,) or (S, channels); returns the path."""
    soundfile.write(path, wav.numpy(), sample_rate)
    return path
