"""What an encoder of the family looks like: WavLM or HuBERT, Large or Base type, any depth.

The field names are transformers', so that a ``config.json`` reads and writes without a table.
Two traits tell the types apart:

=======  ===================  ======================  =====================
type     conv front end       transformer layers      waveform z-norm
=======  ===================  ======================  =====================
Large    LayerNorm, 7 times   pre-norm ("stable")     yes (do_normalize)
Base     GroupNorm on conv 0  post-norm               no (WavLM Base)
=======  ===================  ======================  =====================
"""

import dataclasses
from dataclasses import dataclass

_NOT_OURS = {  # variants of the transformers classes that no WavLM or HuBERT release uses
    "add_adapter": False,
    "conv_pos_batch_norm": False,
    "feat_proj_layer_norm": True,
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
}


@dataclass(frozen=True)
class EncoderConfig:
    """Architecture of an encoder; the defaults are WavLM Large (the paper's section III-A).

    ``layerdrop`` is carried along for round trips and never applied: a four-layer student has no
    layer to spare, and dropped layers make hidden states go missing (ours).
    """

    model_type: str = "wavlm"
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    conv_dim: tuple = (512,) * 7
    conv_kernel: tuple = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: str = "layer"
    do_stable_layer_norm: bool = True
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    num_buckets: int = 320
    max_bucket_distance: int = 800
    layer_norm_eps: float = 1e-5
    do_normalize: bool = True
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    feat_proj_dropout: float = 0.1
    layerdrop: float = 0.0

    def __post_init__(self):
        for name in ("conv_dim", "conv_kernel", "conv_stride"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.model_type == "hubert":  # no relative-position table
            object.__setattr__(self, "num_buckets", 0)
            object.__setattr__(self, "max_bucket_distance", 0)
        if self.model_type not in ("wavlm", "hubert"):
            raise ValueError(f"model_type is 'wavlm' or 'hubert', not {self.model_type!r}")
        if self.feat_extract_norm not in ("layer", "group"):
            raise ValueError(f"feat_extract_norm is 'layer' or 'group': {self.feat_extract_norm!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"{self.hidden_size} dimensions / {self.num_attention_heads} heads")
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            raise ValueError("conv_dim, conv_kernel and conv_stride must be equally long")

    @property
    def is_large_type(self):
        """True where the encoder's final LayerNorm comes last and is therefore unused here."""
        return self.do_stable_layer_norm

    @classmethod
    def from_transformers(cls, config, do_normalize=None):
        """From a transformers ``config.json``.

        Arguments
        ---------
        config : dict
            The file's content.
        do_normalize : bool, optional
            The flag of ``preprocessor_config.json``; None: on for Large types, off for Base.

        Raises
        ------
        ValueError
            For another ``model_type`` or a variant that no WavLM or HuBERT release uses.
        """
        for key, only in _NOT_OURS.items():
            if config.get(key, only) != only:
                raise ValueError(
                    f"config.json: {key}={config[key]!r} is not supported, only {only!r}"
                )
        defaults = dict(cls.wavlm_base().__dict__, model_type=config.get("model_type", "none"))
        names = {field.name for field in dataclasses.fields(cls)}
        given = {key: value for key, value in config.items() if key in names}
        fields = {**defaults, **given}
        if do_normalize is None:
            do_normalize = bool(fields["do_stable_layer_norm"])
        fields["do_normalize"] = do_normalize
        return cls(**fields)

    def to_transformers(self):
        """The ``config.json`` that WavLMModel or HubertModel opens (dict)."""
        config = dataclasses.asdict(self)
        config.pop("do_normalize")  # lives in preprocessor_config.json
        if self.model_type == "hubert":
            config.pop("num_buckets"), config.pop("max_bucket_distance")
        for key in ("conv_dim", "conv_kernel", "conv_stride"):
            config[key] = list(config[key])
        architecture = {"wavlm": "WavLMModel", "hubert": "HubertModel"}[self.model_type]
        config.update(architectures=[architecture], num_feat_extract_layers=len(self.conv_dim))
        return config

    def to_preprocessor(self):
        """The ``preprocessor_config.json`` that goes with it (dict)."""
        return {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "do_normalize": self.do_normalize,
            "feature_size": 1,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": 16000,
        }

    @classmethod
    def wavlm_large(cls, **changes):
        """WavLM Large: 24 layers of 1024, 315,453,120 parameters."""
        return dataclasses.replace(cls(), **changes)

    @classmethod
    def wavlm_base(cls, **changes):
        """WavLM Base and Base+: 12 layers of 768, post-norm, 94,381,936 parameters."""
        base = dict(
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            feat_extract_norm="group",
            do_stable_layer_norm=False,
            do_normalize=False,
            activation_dropout=0.0,
        )
        return cls(**{**base, **changes})

    @classmethod
    def hubert_large(cls, **changes):
        """HuBERT Large: as WavLM Large, with conv biases and without the gated bias."""
        return cls(**{"model_type": "hubert", "conv_bias": True, **changes})

    @classmethod
    def hubert_base(cls, **changes):
        """HuBERT Base: as WavLM Base, without the gated bias."""
        return cls.wavlm_base(**{"model_type": "hubert", **changes})

    @classmethod
    def mini_large(cls, **changes):
        """A Large type that two CPU cores can train: 12 layers of 192 (ours)."""
        mini = dict(
            hidden_size=192,
            num_hidden_layers=12,
            num_attention_heads=4,
            intermediate_size=768,
            conv_dim=(64, 64, 64, 96, 128, 128, 192),
            num_conv_pos_embeddings=64,
            num_conv_pos_embedding_groups=8,
            num_buckets=160,
            max_bucket_distance=400,
        )
        return cls(**{**mini, **changes})

    @classmethod
    def mini_base(cls, **changes):
        """A Base type of the same width: 6 post-norm layers, GroupNorm (ours)."""
        base = dict(
            num_hidden_layers=6,
            feat_extract_norm="group",
            do_stable_layer_norm=False,
            do_normalize=False,
        )
        return cls.mini_large(**{**base, **changes})
