"""Fast inference on a CPU: when it is taken, and the memory of tensors made from weights.

The encoder's plain path (:mod:`vesper_lobes.conv`, :mod:`~vesper_lobes.transformer`,
:mod:`~vesper_lobes.attention`) defines what is computed; this room computes the same states faster
where no gradient is wanted. ``encoder.fast = False`` switches it off.

=============================  ================================================================
module                         what it does otherwise than the plain path
=============================  ================================================================
``vesper_lobes.fast_conv``     conv front end in chunks of time that stay in the cache, the first
                               LayerNorm folded into its convolution; no work on padding
``vesper_lobes.fast_layers``   positional convolution by FFT; rows packed without padding, so
                               that attention needs no mask; position bias never stored
``vesper_lobes.int8``          linear layers on 8-bit integers, where asked for
=============================  ================================================================

It is taken by itself for float32 weights on a CPU, in float32 or, under ``torch.autocast("cpu",
torch.bfloat16)``, in bfloat16 with the weights cast and laid out once (autocast casts them in
every call). Anything unforeseen takes the plain path: training, gradients, compilation and
tracing, a hook or a replaced module inside, an operation counter around it, other devices and
dtypes.
"""

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from vesper_lobes.int8 import Int8Linear

gelu_ = torch.ops.aten.gelu_.default


class WeightCache:
    """Tensors made from parameters, made again once a parameter has changed.

    Noticed are in-place edits (``load_state_dict``), replaced parameters, and other storage
    (``.to()``), by version counter and address; the parameters are held, so an address cannot be
    used anew. Optimizers count too, the fused ones by :func:`count_fused_steps`. Not to be noticed
    by anybody: writing through ``parameter.data`` or NumPy views, which PyTorch does not count;
    call :meth:`clear` after it.

    Copies and pickles of a cache are empty.

    Example
    -------
    >>> cache, weight = WeightCache(), nn.Parameter(torch.ones(2))
    >>> cache.get("double", [weight], lambda: 2 * weight.detach())
    tensor([2., 2.])
    >>> with torch.no_grad():
    ...     _ = weight.add_(1)
    >>> cache.get("double", [weight], lambda: 2 * weight.detach())
    tensor([4., 4.])
    """

    def __init__(self):
        self._held = {}

    def get(self, key, parameters, make):
        """``make()``, or what it returned when the parameters were last different.

        Arguments
        ---------
        key : hashable
            One for each purpose.
        parameters : iterable of torch.Tensor
            All that ``make`` reads.
        make : callable
        """
        now = [(p.data_ptr(), p.stride(), p._version) for p in parameters]
        held = self._held.get(key)
        if held is None or held[0] != now:
            held = self._held[key] = (now, make(), [p.detach() for p in parameters])
        return held[1]

    def clear(self):
        """Forget everything."""
        self._held.clear()

    def __deepcopy__(self, memo):
        return WeightCache()

    def __reduce__(self):
        return WeightCache, ()


def count_fused_steps(optimizer, args, kwargs):
    """After every step of a fused optimizer: its parameters were written to.

    PyTorch (2.11) forgets to count these writes, so whatever trusts version counters, autograd's
    own checks included, takes the parameters for unchanged. Registered when this module is
    imported.
    """
    for group in optimizer.param_groups:
        if group.get("fused"):
            for parameter in group["params"]:
                if parameter.device.type == "cpu":
                    torch.autograd.graph.increment_version(parameter)


register_optimizer_step_post_hook(count_fused_steps)


def fast_dtype(module, x, known, inside=()):
    """The precision in which the fast path may run a module, or None: the plain path must.

    Arguments
    ---------
    module : nn.Module
        The part of the encoder.
    x : torch.Tensor
        Its input.
    known : tuple of type
        Classes of submodules that the fast path reads the parameters of.
    inside : iterable of nn.Module
        Submodules that it calls or evaluates as they are.

    Returns
    -------
    torch.dtype or None
    """
    if type(x) is not torch.Tensor or x.device.type != "cpu" or _is_observed():
        return None
    if not all(_is_readable(p) for p in module.parameters()):
        return None
    if torch.is_grad_enabled() and (
        x.requires_grad or any(p.requires_grad for p in module.parameters())
    ):
        return None
    exempt = {id(part) for outer in inside for part in outer.modules()}
    if not all(_is_untouched(m, known) for m in module.modules() if id(m) not in exempt):
        return None
    if torch.is_autocast_enabled("cpu"):
        half = torch.get_autocast_dtype("cpu") == torch.bfloat16
        return torch.bfloat16 if half and x.dtype in (torch.float32, torch.bfloat16) else None
    return torch.float32 if x.dtype == torch.float32 else None


def _is_observed():
    """Whether somebody follows the operations: a compiler, a tracer, a counter."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or is_in_torch_dispatch_mode()
        or _has_any_global_hook()
    )


def _is_readable(parameter):
    """float32 on a CPU, with a version counter."""
    return (
        parameter.dtype == torch.float32
        and parameter.device.type == "cpu"
        and not parameter.is_inference()
    )


def _is_untouched(module, known):
    """No other class, hook or patched forward: its parameters tell all it does."""
    return (
        type(module) in known
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and "forward" not in vars(module)
    )


def layer_norm(x, norm):
    """An nn.LayerNorm's function, (..., D) -> (..., D)."""
    return nn.functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def linear(cache, key, layers, x, sizes=None, gelu=False):
    """Several linear layers of one input; in bfloat16 as one product with packed weights.

    Arguments
    ---------
    cache : WeightCache
    key : hashable
    layers : list of nn.Linear or Int8Linear
    x : torch.Tensor (R, D)
        float32 or bfloat16.
    sizes : list of int, optional
        Packed frames of each utterance, for 8-bit layers; None: x is one utterance's.
    gelu : bool
        Ends with a GELU; in bfloat16 before anything is rounded.

    Returns
    -------
    list of torch.Tensor (R, D_i)
        In x's dtype.
    """
    if x.dtype == torch.bfloat16 and all(type(layer) is nn.Linear for layer in layers):
        parameters = [p for layer in layers for p in layer.parameters()]
        product = cache.get(key, parameters, lambda: PackedLinear.of(layers))
        return product(x, gelu).split([layer.out_features for layer in layers], dim=-1)
    args = (x, sizes) if isinstance(layers[0], Int8Linear) else (x,)
    results = [layer(*args) for layer in layers]
    return [gelu_(y) if gelu else y for y in results]


class PackedLinear:
    """A bfloat16 product whose weights lie as the processor's matrix unit wants them.

    oneDNN otherwise rearranges them in every call, a third of a product's time with AMX. The two
    operators are PyTorch's own for frozen graphs; without them it is an ordinary linear layer.

    Arguments
    ---------
    weight : torch.Tensor (D_out, D_in)
    bias : torch.Tensor (D_out,) or None
    pack : bool
        False: an ordinary linear layer.

    Example
    -------
    >>> weight, x = torch.randn(6, 4), torch.randn(3, 4)
    >>> y = PackedLinear(weight)(x.bfloat16())
    >>> y.dtype, bool((y - x @ weight.T).abs().max() < 0.1)
    (torch.bfloat16, True)
    """

    ROWS = 1024  # typical rows of an input: a hint for the layout

    def __init__(self, weight, bias=None, pack=True):
        self.weight = weight.detach().to(torch.bfloat16).contiguous()
        self.bias = None if bias is None else bias.detach().to(torch.bfloat16)
        ops = torch.ops.mkldnn
        self.packed = (
            pack and torch.backends.mkldnn.is_available() and hasattr(ops, "_linear_pointwise")
        )
        if self.packed:
            self.weight = ops._reorder_linear_weight(self.weight, self.ROWS)

    @classmethod
    def of(cls, layers):
        """Of several nn.Linear with the same input."""
        weight = torch.cat([layer.weight for layer in layers])
        return cls(weight, torch.cat([layer.bias for layer in layers]))

    def __call__(self, x, gelu=False):
        """(R, D_in) bfloat16 -> (R, D_out) bfloat16, with a GELU before rounding on demand."""
        if self.packed:
            end = ("gelu", [], "none") if gelu else ("none", [], "")
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *end)
        y = nn.functional.linear(x, self.weight, self.bias)
        return gelu_(y) if gelu else y
