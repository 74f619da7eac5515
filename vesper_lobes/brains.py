"""The Brains that the recipes subclass."""

from vesper_lobes.distill_brain import DistillBrain
from vesper_lobes.emotion_brain import EmotionBrain
from vesper_lobes.masked_prediction_brain import MaskedPredictionBrain
from vesper_lobes.pretrain_brain import PretrainBrain

__all__ = ["DistillBrain", "EmotionBrain", "MaskedPredictionBrain", "PretrainBrain"]
