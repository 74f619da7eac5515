"""Parameter names of Microsoft's WavLM release and of the published Vesper code, in ours.

Both use fairseq's names. Their configurations need not be unpickled: every size stands in the
tensors' shapes.
"""

import re

from vesper_lobes.config import EncoderConfig

_CONVS = "feature_extractor.conv_layers"
_POSITIONAL = "encoder.pos_conv_embed.conv"
_RULES = [  # (fairseq, transformers), applied in order
    (r"^vesper\.", ""),
    (r"^mask_emb$", "masked_spec_embed"),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (rf"^{_CONVS}\.(\d+)\.0\.", rf"{_CONVS}.\1.conv."),
    (rf"^{_CONVS}\.(\d+)\.2(\.1)?\.", rf"{_CONVS}.\1.layer_norm."),
    (r"^encoder\.pos_conv\.0\.weight_g$", f"{_POSITIONAL}.parametrizations.weight.original0"),
    (r"^encoder\.pos_conv\.0\.weight_v$", f"{_POSITIONAL}.parametrizations.weight.original1"),
    (r"^encoder\.pos_conv\.0\.", f"{_POSITIONAL}."),
    (r"\.self_attn\.grep_linear\.", ".attention.gru_rel_pos_linear."),
    (r"\.self_attn\.grep_a$", ".attention.gru_rel_pos_const"),
    (r"\.self_attn\.relative_attention_bias\.", ".attention.rel_attn_embed."),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
]
_PREDICTORS = re.compile(r"^[lhx]_predictor\.")


def is_fairseq_style(state):
    """Whether the names are fairseq's (dict of tensors -> bool)."""
    return any(name.endswith("post_extract_proj.weight") for name in state)


def from_fairseq_names(state):
    """Rename; the pretraining predictors of the published code are left out.

    Arguments
    ---------
    state : dict of str to torch.Tensor

    Returns
    -------
    dict of str to torch.Tensor
        Names unknown to the rules stay, for the strict loader to report.
    """
    renamed = {}
    for name, tensor in state.items():
        if _PREDICTORS.match(name):
            continue
        for pattern, replacement in _RULES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def config_from_shapes(state, do_normalize=None):
    """The architecture that tensors of these shapes belong to.

    Arguments
    ---------
    state : dict of str to torch.Tensor
        In transformers' names.
    do_normalize : bool, optional
        None: by type.

    Returns
    -------
    EncoderConfig
        Strides and the largest distance leave no trace in shapes: WavLM's are taken.

    Raises
    ------
    KeyError
        When a parameter every WavLM has is missing.
    """
    conv = "feature_extractor.conv_layers.{}.conv.weight"
    kernels = [state[conv.format(i)] for i in range(7)]
    is_large = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    buckets, heads = state["encoder.layers.0.attention.rel_attn_embed.weight"].shape
    positional = state["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    hidden = state["masked_spec_embed"].shape[0]
    depth = 1 + max(int(m.group(1)) for m in map(_LAYER.match, state) if m)
    base = EncoderConfig.wavlm_large() if is_large else EncoderConfig.wavlm_base()
    return EncoderConfig(
        **{
            **base.__dict__,
            "hidden_size": hidden,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
            "intermediate_size": state[
                "encoder.layers.0.feed_forward.intermediate_dense.weight"
            ].shape[0],
            "conv_dim": tuple(k.shape[0] for k in kernels),
            "conv_kernel": tuple(k.shape[2] for k in kernels),
            "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
            "num_conv_pos_embeddings": positional.shape[2],
            "num_conv_pos_embedding_groups": hidden // positional.shape[1],
            "num_buckets": buckets,
            "do_normalize": is_large if do_normalize is None else do_normalize,
        }
    )


_LAYER = re.compile(r"^encoder\.layers\.(\d+)\.")
