"""The frozen teacher of Vesper's pretraining."""

import torch

from vesper_lobes.checkpoints import load_encoder

_CNN_SETTINGS = ("conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm")


class Teacher:
    """A frozen encoder that yields the two states which students learn from.

    Not an nn.Module, so that nothing that walks over modules (Brain's `train()`, optimizers,
    checkpoints, DDP) ever finds it: a teacher in train mode would have dropout in its targets.

    Arguments
    ---------
    encoder : vesper_lobes.encoder.Encoder
        M layers, M even. It is frozen here, for ever.

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> teacher = Teacher(Encoder(EncoderConfig.mini_large(num_hidden_layers=2)))
    >>> middle, last = teacher(torch.randn(1, 8000))
    >>> middle.shape, last.requires_grad
    (torch.Size([1, 24, 192]), False)
    """

    def __init__(self, encoder):
        self.encoder = encoder.freeze()

    @property
    def num_layers(self):
        """M."""
        return self.encoder.num_layers

    def to(self, device):
        """Move the weights to a device."""
        self.encoder.to(device)
        return self

    @torch.no_grad()
    def __call__(self, wavs, wav_lens=None, cnn_output=None):
        """Raw states M/2 and M.

        Arguments
        ---------
        wavs : torch.Tensor (B, S)
            The student's crop; not looked at with `cnn_output`.
        wav_lens : torch.Tensor (B,), optional
            Relative lengths.
        cnn_output : tuple, optional
            (features (B, T, C), lengths (B,)) as `encoder.cnn` returns them, from a student for
            which `shares_cnn_with` is true.

        Returns
        -------
        tuple of two torch.Tensor (B, T, D)
        """
        features, lengths = cnn_output or self.encoder.cnn(wavs, wav_lens)
        states = self.encoder.encode(features, lengths).states
        return states[self.num_layers // 2], states[self.num_layers]

    @torch.no_grad()
    def shares_cnn_with(self, student):
        """Whether a student's conv front end yields what the teacher's own would.

        True while waveform normalisation, architecture and all weights are equal. To rely on it
        over a training the student's front end must be frozen too.
        """
        ours, theirs = self.encoder.config, student.config
        settings = (*_CNN_SETTINGS, "do_normalize")
        if any(getattr(ours, name) != getattr(theirs, name) for name in settings):
            return False
        own = self.encoder.feature_extractor.state_dict()
        other = student.feature_extractor.state_dict()
        return own.keys() == other.keys() and all(
            torch.equal(own[name], other[name].to(own[name])) for name in own
        )


def load_teacher(source, cure=""):
    """A teacher from a folder, file or hub id.

    Arguments
    ---------
    source : str
        What `load_encoder` takes.
    cure : str
        Said when there is no source: how to get one.

    Raises
    ------
    ValueError
        Without a source.
    """
    if not source:
        raise ValueError(f"no teacher was named. {cure}")
    return Teacher(load_encoder(source))
