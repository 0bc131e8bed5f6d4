"""What other acts bring: an absent name is answered with the act that has it.

A newcomer asks `tt_core` for everything that PyTorch has. The tables hold names only, so nothing of a later act is
imported; `tests/test_absent_names.py` holds them equal to the packages' public names.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from tt_core.command.journey import act_name
from tt_core.engine.errors import did_you_mean

ACTS = {"tt_core": 1, "tt_learn": 2, "tt_data": 3, "tt_language": 4, "tt_perf": 5, "tinygpt": 6}

NAMES: dict[str, str] = {
    "tt_learn": """
        Adadelta Adagrad Adam AdamW Adamax Callback CheckpointError Checkpoints ConstantLR
        CosineAnnealingLR CosineAnnealingWarmRestarts CosineWarmupLR CyclicLR EarlyStopping
        ExponentialLR Function GradcheckError GradientError JSONLog LBFGS LambdaLR LinearLR Lion
        LossCurve MultiStepLR Muon NAdam OneCycleLR Optimizer OptimizerError PolynomialLR ProgressBar
        RAdam RMSprop ReduceLROnPlateau SGD SGDMomentum Scheduler SequentialLR StepLR Trainer
        TrainingError accuracy binary_accuracy checkpoint clip_grad_norm_ clip_grad_value_
        confusion_matrix draw_graph enable_grad evaluating formula grad gradcheck gradgradcheck gradient
        inference_mode is_grad_enabled load load_checkpoint load_tensors no_grad non_differentiable
        perplexity save save_checkpoint save_tensors set_grad_enabled top_k_accuracy
    """,
    "tt_data": """
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d AvgPool1d AvgPool2d
        BatchNorm1d BatchNorm2d BatchSampler BlockShuffleSampler CIFAR10 CircularPad2d ConcatDataset
        ConstantPad2d Conv1d Conv2d ConvTranspose1d ConvTranspose2d DataLoader Dataset DownloadError
        Dropout2d FashionMNIST Flatten Fold GeneratedDigits GeneratedShapes GroupNorm ImageDataset
        InstanceNorm1d InstanceNorm2d IterableDataset MNIST MaxPool1d MaxPool2d MaxUnpool2d
        MemmapDataset PixelShuffle PixelUnshuffle RandomSampler ReflectionPad2d ReplicationPad2d Sampler
        SequentialSampler ShardedDataset Subset SubsetRandomSampler TensorDataset Text Unflatten Unfold
        Upsample WeightedRandomSampler WorkerError WorkerInfo ZeroPad2d adaptive_avg_pool1d
        adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d affine_grid avg_pool1d avg_pool2d
        batch_norm conv1d conv2d conv_transpose1d conv_transpose2d datasets default_collate dropout2d
        fold get_worker_info grid_sample group_norm instance_norm interpolate max_pool1d max_pool2d
        max_pool2d_with_indices max_unpool2d pixel_shuffle pixel_unshuffle random_split transforms
        unfold upsample write_shards
    """,
    "tt_language": """
        AddedToken BPETokenizer ByteTokenizer CharTokenizer CompressionReport ConfigError DecoderStack
        Embedding EncoderStack FeedForward GPT GPTConfig MemoryFootprint MultiHeadAttention
        MultiheadAttention PositionalEmbedding RMSNorm RotaryEmbedding Sampling Seq2SeqTransformer
        SinusoidalEmbedding StreamDecoder SwiGLU Tokenizer TokenizerError Transformer TransformerBlock
        TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer
        attention_weights compression_report embedding generate heat_map load_tokenizer memory_footprint
        nearest next_token_loss picture read_text record_attention rms_norm rotary
        scaled_dot_product_attention stream
    """,
    "tt_perf": """
        CacheError CacheOptions Calibration CompressionError Distillation DistillationTrainer
        DynamicCache GradualPruning HistogramObserver Int4WeightOnly Int8DynamicActivation
        Int8Static Int8WeightOnly KVCache KVCachePlugin MSEObserver Measurement MemoizePlugin
        MinMaxObserver MovingAverageMinMaxObserver Observer PercentileObserver Profiler
        ProfilerActivity ProfilerError QuantizationError StaticCache Timer calibrating
        choose_qparams compare dequantize_ dequantize_affine distillation_loss fake_quantize
        load_compressed load_prompt_cache load_quantized low_rank_ memoize profile prompt_cached
        prune_ quantize_ quantize_affine record_function remove_masks_ save_prompt_cache
        save_quantized schedule shrink_ summary
    """,
    "tinygpt": """
        TinyGPT
    """,
}
"""Public names of each later act's package, without those that it takes from an earlier one."""

TORCH = {
    "functional": "functions are in tt_core.nn.functional, and later acts have more",
    "optim": "Act II Learning brings optimizers: import tt_learn, then tt_learn.SGD, or tt_learn.optim",
    "lr_scheduler": "Act II Learning brings schedules: import tt_learn, then tt_learn.optim.lr_scheduler",
    "utils": "Act III Data & Scale brings data loaders: import tt_data, then tt_data.DataLoader",
    "Module": "it is tt_core.nn.Module, and called Layer here",
    "ModuleList": "it is tt_core.nn.ModuleList, and called LayerList here",
    "ModuleDict": "it is tt_core.nn.ModuleDict, and called LayerDict here",
    "autograd": "Act II Learning brings gradients: import tt_learn, then tt_learn.grad and tt_learn.Function",
}
"""PyTorch's names for what is found elsewhere."""

SHARED = ("autograd", "enable_grad", "inference_mode", "is_grad_enabled", "load", "no_grad", "optim", "save",
          "set_grad_enabled")  # fmt: skip
"""Names of Act II that `tt_core` has too once `tt_learn` is imported, as PyTorch has them beside `tensor`."""

GRADIENTS = """
    backward detach_ grad grad_fn is_leaf register_hook requires_grad requires_grad_ retain_grad zero_grad
"""
"""What tensors have since Act II."""


class AbsentError(AttributeError):
    """A name that another act brings, or that PyTorch has and this framework has not.

    >>> import tt_core
    >>> tt_core.Conv2d
    Traceback (most recent call last):
    tt_core.engine.later.AbsentError: tt_core has no Conv2d: Act III Data & Scale brings it; import tt_data, ...
    """


def absent(package: str) -> Callable[[str], Any]:
    """A `__getattr__` for a package or namespace that tells which act brings the name that was asked for.

    >>> absent("tt_core")("Profiler")
    Traceback (most recent call last):
    tt_core.engine.later.AbsentError: tt_core has no Profiler: Act V Production brings it; import tt_perf, ...
    """

    def answer(name: str) -> Any:
        if name.startswith("__"):  # asked by Python itself
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if "." in package or name in SHARED:  # tt_core.nn shows what later acts bring, once they are imported
            for other in ACTS:
                exported = vars(sys.modules.get(other, object))
                if other != "tt_core" and name in exported:
                    return exported[name]
        raise AbsentError(f"{package} has no {name}: {_where(package, name)}")

    return answer


def _where(package: str, name: str) -> str:
    for other, names in NAMES.items():
        if name in names.split() and other != package:
            return f"Act {act_name(ACTS[other])} brings it; import {other}, then {other}.{name}"
    for other in ACTS:  # an earlier act, which is installed and imported
        earlier = other != package and ACTS[other] < ACTS[package.partition(".")[0]]
        if earlier and name in vars(sys.modules.get(other, object)):
            return f"Act {act_name(ACTS[other])} has it; write {other}.{name}"
    if name in TORCH:
        return TORCH[name]
    public = [known for known in vars(importlib.import_module(package)) if not known.startswith("_")]
    near = did_you_mean(name, public)
    return near if near.startswith("did") else "no act has it; docs/not-here.md tells what to use instead"


def absent_in_tensor(tensor: Any, name: str) -> str:
    """Why a tensor has no attribute `name`, and what to write.

    >>> import tt_core
    >>> tt_core.zeros(1).gelu()
    Traceback (most recent call last):
    AttributeError: a tensor has no gelu: write tt_core.gelu(x)
    """
    if name in GRADIENTS.split():
        if "tt_learn" in sys.modules:
            return f"this tensor has no {name}: it was made before `import tt_learn`; make it again after that line"
        return f"a tensor has no {name}: Act II Learning brings gradients; import tt_learn before making tensors"
    if callable(vars(sys.modules["tt_core"]).get(name)):
        return f"a tensor has no {name}: write tt_core.{name}(x)"
    near = did_you_mean(name, [known for known in dir(type(tensor)) if not known.startswith("_")])
    return f"a tensor has no {name}" + (f": {near}" if near.startswith("did") else "")
