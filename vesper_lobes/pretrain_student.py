"""The student of Vesper's pretraining: a compressed encoder with its three predictors."""

from torch import nn

from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.compression import compress
from vesper_lobes.losses import VesperLosses


class PretrainStudent(nn.Module):
    """What is trained, as one module, so that distributed training wraps it once.

    Arguments
    ---------
    encoder : vesper_lobes.encoder.Encoder
        The student; its conv front end is frozen here.
    losses : VesperLosses
        With the predictors.

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2))
    >>> student = PretrainStudent(encoder, VesperLosses(encoder.hidden_size))
    >>> any(p.requires_grad for p in student.encoder.feature_extractor.parameters())
    False
    """

    def __init__(self, encoder, losses):
        super().__init__()
        self.encoder = encoder.freeze_cnn()
        self.losses = losses

    def forward(self, features, lengths, targets, masks):
        """Losses of a batch.

        Arguments
        ---------
        features : torch.Tensor (B, T, C)
            Output of the frozen conv front end, computed outside, where the teacher shares it.
        lengths : torch.LongTensor (B,)
            Real frames.
        targets : tuple of two torch.Tensor (B, T, D)
            The teacher's states M/2 and M.
        masks : vesper_lobes.masker.Masks

        Returns
        -------
        dict
            `l`, `h`, `x` and `total`, scalars.
        """
        output = self.encoder.encode(features, lengths, masks.phoneme, masks.word)
        return self.losses(output.states, lengths, targets, masks)


def build_student(
    teacher,
    num_layers,
    method="extraction",
    layers=None,
    ranges=None,
    random_cnn=False,
    dropout=None,
    mask_after_pos_conv=False,
    loss_weights=None,
    reduction="mean",
    distilled="",
):
    """Compress a teacher and add predictors.

    Arguments
    ---------
    teacher : vesper_lobes.teacher.Teacher
    num_layers, method, layers, ranges, random_cnn, dropout
        As for `compress`.
    mask_after_pos_conv : bool
        As for `Encoder`.
    loss_weights, reduction
        As for `VesperLosses`.
    distilled : str
        For method `distillation`: export of `recipes/LSSED/distill`.

    Returns
    -------
    PretrainStudent
        `.plan` tells the teacher layers each student layer came from.

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> from vesper_lobes.teacher import Teacher
    >>> teacher = Teacher(Encoder(EncoderConfig.mini_large(num_hidden_layers=4)))
    >>> print(build_student(teacher, num_layers=2).plan)
    extraction: 2 of 4 layers <- 1, 3
    """
    options = dict(random_cnn=random_cnn, dropout=dropout)
    options["distilled"] = load_encoder(distilled) if distilled else None
    encoder, plan = compress(teacher.encoder, num_layers, method, layers, ranges, **options)
    encoder.mask_after_pos_conv = mask_after_pos_conv
    losses = VesperLosses(encoder.hidden_size, loss_weights, reduction)
    student = PretrainStudent(encoder, losses)
    student.plan = plan
    return student
