"""A valid call of every public callable of the six packages: what the sweeps vary.

Valid calls come from `CASES`, `METHODS` and `FORWARD`, or are guessed from the names of the parameters (`GUESSES`). A
new public name that has neither fails `test_every_public_callable_has_a_valid_call`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tinygpt
import tt_core
import tt_data
import tt_language
import tt_learn
import tt_perf
from tt_core.engine.dispatch import registry

# --- valid values


def floats(*shape: int) -> Any:
    return tt_learn.tensor(np.sin(np.arange(1, math.prod(shape) + 1, dtype=np.float32)).reshape(shape))


def positive(*shape: int) -> Any:
    return tt_learn.tensor(np.linspace(0.1, 0.9, math.prod(shape), dtype=np.float32).reshape(shape))


def ints(*shape: int, below: int = 2) -> Any:
    return tt_learn.tensor((np.arange(math.prod(shape)) % below).reshape(shape))


def bools(*shape: int) -> Any:
    return ints(*shape) == 1


def learned(*shape: int) -> Any:
    return floats(*shape).requires_grad_()


def linear() -> Any:
    return tt_core.Linear(3, 2)


def optimizer() -> Any:
    made = tt_learn.SGD([tt_learn.Tensor([1.0, 2.0], requires_grad=True)], lr=0.1, momentum=0.9)
    made.param_groups[0]["params"][0].grad = tt_core.tensor([0.1, 0.1])
    return made


def dataset() -> Any:
    return tt_data.TensorDataset(np.arange(12, dtype=np.float32).reshape(4, 3), np.array([0, 1, 0, 1]))


def trainer() -> Any:
    model = linear()
    return tt_learn.Trainer(model, tt_learn.SGD(model.parameters(), lr=0.1), tt_core.cross_entropy)


def stacked() -> Any:
    return tt_core.Sequential(linear())


def quantized() -> Any:
    model = stacked()
    tt_perf.quantize_(model, tt_perf.Int8WeightOnly(), verbose=False)
    return model


def calibrated() -> Any:
    if not _calibrated:
        model = stacked()
        with tt_perf.calibrating(model) as calibration:
            model(floats(4, 3))
        _calibrated.extend([model, calibration])
    return _calibrated[0]


_calibrated: list[Any] = []


def filled_cache(model: Any = None) -> Any:
    """A KV cache of two texts of three tokens, and of one layer."""
    cache = tt_perf.KVCache(2)
    with tt_learn.no_grad():
        (model or tiny_gpt())(ints(2, 3), past=cache)
    return cache


def updated(cache: Any) -> Any:
    """The same without a model."""
    cache.update(floats(2, 2, 3, 4), floats(2, 2, 3, 4), 0)
    return cache


def tiny_gpt() -> Any:
    tt_core.manual_seed(0)
    return tt_language.GPT(tt_language.GPTConfig(vocab_size=9, block_size=8, n_layer=1, n_head=2, n_embd=8)).eval()


def cache_file() -> Any:
    return file(lambda path: tt_perf.save_prompt_cache(path, filled_cache(), tiny_gpt()))


def keeping_plugin() -> Any:
    """A plugin that keeps the cache of a model, and that model."""
    plugin, model = tt_perf.KVCachePlugin(reuse=1), tiny_gpt()
    plugin.remember(model, filled_cache(model))
    _models.append(model)  # caches of models that are gone are forgotten
    return plugin


_models: list[Any] = []


def calibration() -> Any:
    return calibrated() and _calibrated[1]


def observer(kind: str) -> Any:
    made = getattr(tt_perf, f"{kind}Observer")()
    made.observe(floats(2, 3))
    return made


def int8(*shape: int) -> Any:
    return tt_core.tensor(ints(*shape).numpy().astype("int8")), positive(shape[0])


def measured() -> Any:
    with tt_perf.Profiler(profile_memory=True, with_stack=True, record_shapes=True) as profiler:
        linear()(floats(4, 3))
    return profiler


def batches() -> Any:
    return [(floats(2, 3), ints(2)), (floats(2, 3), ints(2))]


def adapter_folder() -> Path:
    path = folder()
    tt_perf.save_adapter(tt_perf.get_peft_model(tiny_gpt(), tt_perf.LoraConfig(r=2)), path)
    return path


def gpt() -> Any:
    config = tt_language.GPTConfig(vocab_size=16, block_size=8, n_layer=1, n_head=2, n_embd=4)
    return tt_language.GPT(config)


def characters() -> Any:
    return tt_language.CharTokenizer("abc ")


@functools.cache
def bpe() -> Any:
    return tt_language.BPETokenizer.train("low low", 257)


def folder() -> Path:
    return folders[-1] / f"{next(numbers)}"


folders: list[Path] = []
numbers = itertools.count()


def file(write: Callable[[Path], Any]) -> Path:
    path = folder()
    path.parent.mkdir(exist_ok=True)
    write(path)
    return path


def _text_file() -> Path:
    return file(lambda path: path.write_text("hello world, " * 40, encoding="utf-8"))


def _idx_file() -> Path:
    return file(lambda path: path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3])))


def _shards() -> Path:
    path = folder()
    tt_data.write_shards(path, [(np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.int64))])
    return path


def _array_file() -> Path:
    path = folder().with_suffix(".npy")
    np.save(path, np.zeros((4, 2), np.float32))
    return path


def _tokenizer_file() -> Path:
    path = folder().with_suffix(".json")
    bpe().save(path)
    return path


def given(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


GUESSES: dict[str, Callable[[], Any]] = {
    "self": lambda: floats(2, 3),
    "x": lambda: floats(2, 3),
    "a": lambda: floats(2, 3),
    "b": lambda: floats(2, 3),
    "input": lambda: floats(2, 3),
    "target": lambda: floats(2, 3),
    "other": lambda: floats(2, 3),
    "source": lambda: floats(2, 3),
    "data": lambda: [[1.0, 2.0], [3.0, 4.0]],
    "dim": lambda: 0,
    "dims": lambda: (1, 0),
    "dim0": lambda: 0,
    "dim1": lambda: 1,
    "size": lambda: (2, 3),
    "shape": lambda: (3, 2),
    "sizes": lambda: (2, 3),
    "n": lambda: 3,
    "steps": lambda: 3,
    "start": lambda: 0,
    "end": lambda: 4,
    "fill_value": lambda: 2.0,
    "value": lambda: 2.0,
    "dtype": lambda: "float32",
    "seed": lambda: 3,
    "shifts": lambda: 1,
    "repeats": lambda: 2,
    "pad": lambda: (1, 1),
    "mask": lambda: bools(2, 3),
    "condition": lambda: bools(2, 3),
    "indices": lambda: ints(2, 3),
    "index": lambda: ints(2, 3),
    "tensors": lambda: [floats(2, 3), floats(2, 3)],
    "params": lambda: [learned(2), learned(3)],
    "parameters": lambda: [learned(2), learned(3)],
    "optimizer": optimizer,
    "model": linear,
    "dataset": dataset,
    "data_source": dataset,
    "path": folder,
    "folder": folder,
    "num_features": lambda: 3,
    "kernel_size": lambda: 2,
    "count": lambda: 2,
    "output": lambda: floats(4, 3),
    "text": lambda: "ab",
    "texts": lambda: ["ab", "a"],
    "ids": lambda: [0, 1],
    "token_id": lambda: 1,
    "embed_dim": lambda: 4,
    "num_heads": lambda: 2,
    "num_layers": lambda: 1,
    "dim_": lambda: 4,
    "t": lambda: 2,
    "base": lambda: 0.1,
    "state": dict,
    "state_dict": dict,
    "prefix": lambda: "",
    "output_size": lambda: 2,
    "hook": lambda: _nothing,
    "padding": lambda: 1,
    "module": linear,
    "target_name": lambda: "",
    "function": lambda: _identity,
    "name": lambda: "name",
    "metrics": lambda: 0.5,
    "content": lambda: "<a>",
    "length": lambda: 4,
    **{name: lambda: floats(2, 3) for name in ("x1", "x2", "input1", "input2", "logits")},
    **{name: lambda: floats(2, 3) for name in ("anchor", "positive", "negative")},
    "var": lambda: positive(2, 3),
}


def _identity(x: Any) -> Any:
    return x


def _images() -> Any:
    return np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)


def _nothing(*_: Any) -> None:
    """A hook that changes nothing."""


def _square(x: Any) -> Any:
    return (x * x).sum()


CASES: dict[str, Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "Distillation": lambda: given(linear()),
    "DistillationTrainer": lambda: given(model := linear(), tt_learn.SGD(model.parameters(), lr=0.1), linear()),
    "GradualPruning": lambda: given(linear(), 0.5, end=4),
    "distillation_loss": lambda: given(learned(2, 3), floats(2, 3), ints(2)),
    "load_compressed": lambda: given(linear(), linear().state_dict()),
    "low_rank_": lambda: given(tt_core.Sequential(linear(), linear()), rank=1),
    "capture": lambda: given(_identity),
    "get_peft_model": lambda: given(tiny_gpt(), tt_perf.LoraConfig(r=2)),
    "save_adapter": lambda: given(tt_perf.get_peft_model(tiny_gpt(), tt_perf.LoraConfig(r=2)), folder()),
    "load_adapter": lambda: given(tiny_gpt(), adapter_folder()),
    "prune_": lambda: given(linear(), 0.5),
    "shrink_": lambda: given(tt_core.Sequential(linear(), tt_core.Linear(2, 2)), 0.5, floats(2, 3)),
    # tt_core: functions and ops
    "arange": lambda: given(0, 4, 1),
    "binary_cross_entropy": lambda: given(positive(2, 3), positive(2, 3), positive(3)),
    "binary_cross_entropy_with_logits": lambda: given(
        floats(2, 3), positive(2, 3), positive(3), pos_weight=positive(3)
    ),
    "clip": lambda: given(floats(2, 3), -0.5, 0.5),
    "contrastive_loss": lambda: given(floats(2, 3), floats(2, 3), ints(2)),
    "cross_entropy": lambda: given(floats(2, 3), ints(2), positive(3)),
    "einsum": lambda: given("ij,jk->ik", floats(2, 3), floats(3, 2)),
    "eye": lambda: given(3, 2),
    "from_numpy": lambda: given(np.zeros((2, 3), np.float32)),
    "index_select": lambda: given(floats(2, 3), 1, ints(2)),
    "info_nce_loss": lambda: given(floats(2, 3), floats(2, 3)),
    "kl_div": lambda: given(positive(2, 3).log(), positive(2, 3)),
    "layer_norm": lambda: given(floats(2, 3), floats(3), floats(3)),
    "linear": lambda: given(floats(2, 3), floats(4, 3), floats(4)),
    "masked_fill": lambda: given(floats(2, 3), bools(2, 3), 2.0),
    "matmul": lambda: given(floats(2, 3), floats(3, 2)),
    "nll_loss": lambda: given(floats(2, 3), ints(2), positive(3)),
    "ones": lambda: given(2, 3),
    "zeros": lambda: given(2, 3),
    "Measurement": lambda: given(1, [0.1, 0.2]),
    "Timer": lambda: given("pass"),
    "Profiler": lambda: given(),
    "profile": lambda: given(),
    "record_function": lambda: given("step"),
    "schedule": lambda: given(wait=1, warmup=1, active=1, repeat=1, skip_first=0),
    "summary": lambda: given(stacked(), floats(2, 3)),
    "compare": lambda: given(tt_perf.Timer("pass"), tt_perf.Timer("pass"), rounds=5, min_block_time=1e-6),
    "empty": lambda: given(2, 3),
    "rand": lambda: given(2, 3),
    "randn": lambda: given(2, 3),
    "randint": lambda: given(1, 5, (2, 3)),
    "set_rng_state": lambda: given(tt_core.get_rng_state()),
    "use": lambda: given("profiler"),
    "where": lambda: given(bools(2, 3), floats(2, 3), floats(2, 3)),
    "view": lambda: given(floats(2, 3), (3, 2)),
    "expand": lambda: given(floats(1, 3), (2, 3)),
    "getitem": lambda: given(floats(2, 3), (0, 1)),
    "add_at": lambda: given(floats(2, 3), (slice(0, 2),), (4, 3)),
    "topk_indices": lambda: given(floats(2, 3), 2),
    "sum_to": lambda: given(floats(2, 3), (3,)),
    "rows_product": lambda: given(floats(2, 3), floats(2, 3)),
    "split_heads": lambda: given(floats(2, 3, 8), (2, 2)),
    "join_heads": lambda: given(floats(2, 2, 3, 4)),
    # tt_core: PyTorch's names
    "adaptive_avg_pool1d": lambda: given(floats(1, 3, 8), 2),
    "adaptive_max_pool1d": lambda: given(floats(1, 3, 8), 2),
    "adaptive_max_pool2d": lambda: given(floats(1, 3, 4, 4), 2),
    "adaptive_max_pool2d_with_indices": lambda: given(floats(1, 3, 4, 4), 2),
    "addcdiv": lambda: given(floats(2, 3), floats(2, 3), floats(2, 3)),
    "addcmul": lambda: given(floats(2, 3), floats(2, 3), floats(2, 3)),
    "addmm": lambda: given(floats(2, 2), floats(2, 3), floats(3, 2)),
    "affine_grid": lambda: given(floats(1, 2, 3), (1, 3, 4, 4)),
    "atleast_1d": lambda: given(floats(2)),
    "atleast_2d": lambda: given(floats(2)),
    "cartesian_prod": lambda: given(floats(2), floats(3)),
    "broadcast_tensors": lambda: given(floats(2, 1), floats(3)),
    "meshgrid": lambda: given(floats(2), floats(3), indexing="ij"),
    "baddbmm": lambda: given(floats(2, 2, 2), floats(2, 2, 3), floats(2, 3, 2)),
    "bmm": lambda: given(floats(2, 2, 3), floats(2, 3, 2)),
    "bincount": lambda: given(ints(4)),
    "bitwise_and": lambda: given(ints(4), ints(4)),
    "bitwise_or": lambda: given(ints(4), ints(4)),
    "bitwise_xor": lambda: given(ints(4), ints(4)),
    "bitwise_not": lambda: given(ints(4)),
    "broadcast_to": lambda: given(floats(1, 3), (2, 3)),
    "bucketize": lambda: given(positive(3), positive(2)),
    "chunk": lambda: given(floats(2, 3), 2),
    "clamp": lambda: given(floats(2, 3), 0.1, 0.5),
    "load": lambda: given(file(lambda p: tt_core.save({"a": floats(2)}, p))),
    "save": lambda: given({"a": floats(2)}, folder()),
    "clamp_min": lambda: given(floats(2, 3), 0.5),
    "clamp_max": lambda: given(floats(2, 3), 0.5),
    "dot": lambda: given(floats(3), floats(3)),
    "vdot": lambda: given(floats(3), floats(3)),
    "outer": lambda: given(floats(3), floats(2)),
    "ger": lambda: given(floats(3), floats(2)),
    "mm": lambda: given(floats(2, 3), floats(3, 2)),
    "mv": lambda: given(floats(2, 3), floats(3)),
    "fold": lambda: given(floats(1, 12, 9), (4, 4), 2),
    "unfold": lambda: given(floats(1, 3, 4, 4), 2),
    "grid_sample": lambda: given(floats(1, 3, 4, 4), floats(1, 2, 2, 2)),
    "group_norm": lambda: given(floats(2, 4, 3), 2),
    "instance_norm": lambda: given(floats(2, 3, 4)),
    "interpolate": lambda: given(floats(1, 3, 4, 4), 8),
    "index_add": lambda: given(floats(2, 3), 0, ints(2), floats(2, 3)),
    "index_copy": lambda: given(floats(2, 3), 0, ints(2), floats(2, 3)),
    "index_fill": lambda: given(floats(2, 3), 0, ints(2), 1.0),
    "is_tensor": lambda: given(floats(2)),
    "isin": lambda: given(ints(3), ints(2)),
    "kthvalue": lambda: given(floats(2, 3), 2),
    "topk": lambda: given(floats(2, 3), 2),
    "lerp": lambda: given(floats(2, 3), floats(2, 3), 0.5),
    "trapezoid": lambda: given(floats(2, 3), floats(3)),
    "autocast": lambda: given("cpu", enabled=False),
    "moveaxis": lambda: given(floats(2, 3), 0, 1),
    "movedim": lambda: given(floats(2, 3), 0, 1),
    "swapaxes": lambda: given(floats(2, 3), 0, 1),
    "swapdims": lambda: given(floats(2, 3), 0, 1),
    "multinomial": lambda: given(positive(2, 3), 2),
    "narrow": lambda: given(floats(2, 3), 1, 0, 2),
    "pixel_shuffle": lambda: given(floats(1, 4, 2, 2), 2),
    "pixel_unshuffle": lambda: given(floats(1, 1, 4, 4), 2),
    "poisson": lambda: given(positive(2, 3)),
    "quantile": lambda: given(floats(2, 3), 0.5),
    "randint_like": lambda: given(floats(2, 3), 1, 5),
    "scatter": lambda: given(floats(2, 3), 0, ints(2, 3), floats(2, 3)),
    "scatter_add": lambda: given(floats(2, 3), 0, ints(2, 3), floats(2, 3)),
    "select": lambda: given(floats(2, 3), 1, 2),
    "searchsorted": lambda: given(positive(3), positive(2)),
    "set_grad_enabled": lambda: given(True),
    "split": lambda: given(floats(2, 3), 1),
    "tensor_split": lambda: given(floats(2, 3), 2),
    "tril_indices": lambda: given(2, 3),
    "triu_indices": lambda: given(2, 3),
    "unflatten": lambda: given(floats(2, 3), 1, (3, 1)),
    "conv1d": lambda: given(floats(1, 3, 8), floats(2, 3, 3)),
    "conv_transpose1d": lambda: given(floats(1, 3, 8), floats(3, 2, 3)),
    "conv_transpose2d": lambda: given(floats(1, 3, 4, 4), floats(3, 2, 3, 3)),
    "max_pool2d_index": lambda: given(floats(1, 3, 4, 4), 2),
    "max_pool2d_with_indices": lambda: given(floats(1, 3, 4, 4), 2),
    # tt_core: initialisation
    "init.constant_": lambda: given(floats(2, 3), 0.5),
    "init.calculate_gain": lambda: given("leaky_relu", 0.1),
    # tt_core: layers and losses
    "Linear": lambda: given(3, 2),
    "LayerNorm": lambda: given(3),
    "LayerList": lambda: given([linear(), linear()]),
    "Sequential": lambda: given(linear(), tt_core.ReLU()),
    "BCELoss": lambda: given(positive(3)),
    "BCEWithLogitsLoss": lambda: given(positive(3), pos_weight=positive(3)),
    "CrossEntropyLoss": lambda: given(positive(3)),
    "NLLLoss": lambda: given(positive(3)),
    "functional.cosine_embedding_loss": lambda: given(floats(2, 3), floats(2, 3), ints(2)),
    "functional.glu": lambda: given(floats(2, 4)),
    "functional.layer_norm": lambda: given(floats(2, 3), (3,), floats(3), floats(3)),
    "functional.linear": lambda: given(floats(2, 3), floats(4, 3), floats(4)),
    "functional.multi_margin_loss": lambda: given(floats(2, 3), ints(2)),
    "functional.one_hot": lambda: given(ints(2, 3), 3),
    "functional.prelu": lambda: given(floats(2, 3), positive(3)),
    "functional.threshold": lambda: given(floats(2, 3), 0.5, 1.0),
    "nn.ParameterDict": lambda: given({"a": floats(2)}),
    "nn.ParameterList": lambda: given([floats(2), floats(3)]),
    "nn.Threshold": lambda: given(0.5, 1.0),
    "distributions.Bernoulli": lambda: given(positive(2, 3)),
    "distributions.Categorical": lambda: given(positive(2, 3)),
    "distributions.Normal": lambda: given(floats(2, 3), positive(2, 3)),
    "distributions.Uniform": lambda: given(floats(2, 3), floats(2, 3) + 1),
    "distributions.kl_divergence": lambda: given(*[tt_core.distributions.Normal(floats(3), positive(3))] * 2),
    # tt_learn
    "Checkpoints": lambda: given(folder(), every=2),
    "CosineAnnealingLR": lambda: given(optimizer(), 4),
    "CosineWarmupLR": lambda: given(optimizer(), 2, 4),
    "ExponentialLR": lambda: given(optimizer(), 0.5),
    "LambdaLR": lambda: given(optimizer(), lambda t: 0.5**t),
    "MultiStepLR": lambda: given(optimizer(), [1, 2]),
    "OneCycleLR": lambda: given(optimizer(), 0.5, total_steps=6),
    "StepLR": lambda: given(optimizer(), 2),
    "Optimizer": lambda: given([learned(2)], {"lr": 0.1}),
    "Muon": lambda: given([learned(2, 3)]),
    "Trainer": lambda: given(model := linear(), tt_learn.SGD(model.parameters(), lr=0.1), tt_core.cross_entropy),
    "accuracy": lambda: given(floats(4, 3), ints(4)),
    "binary_accuracy": lambda: given(floats(4), ints(4)),
    "confusion_matrix": lambda: given(floats(4, 3), ints(4)),
    "top_k_accuracy": lambda: given(floats(4, 3), ints(4), 2),
    "perplexity": lambda: given(1.5),
    "checkpoint": lambda: given(_square, learned(2, 3)),
    "clip_grad_norm_": lambda: given([learned(2)], 1.0),
    "clip_grad_value_": lambda: given([learned(2)], 1.0),
    "draw_graph": lambda: given(learned(2).sum(), folder()),
    "formula": lambda: given(tt_core.abs, _identity),
    "gradient": lambda: given(tt_core.abs, _identity),
    "grad": lambda: given(_square(w := learned(2, 3)), w),
    "gradcheck": lambda: given(_square, [tt_learn.tensor(np.ones(2), requires_grad=True)]),
    "gradgradcheck": lambda: given(_square, [tt_learn.tensor(np.ones(2), requires_grad=True)]),
    "load_checkpoint": lambda: given(file(lambda p: tt_learn.save_checkpoint(p, a=1))),
    "load_tensors": lambda: given(file(lambda p: tt_learn.save_tensors(p, {"a": floats(2)}))),
    "save_checkpoint": lambda: given(folder(), a=1),
    "save_tensors": lambda: given(folder(), {"a": floats(2)}, {"b": "c"}),
    "non_differentiable": lambda: given(tt_core.sign),
    # tt_data
    "AdaptiveAvgPool2d": lambda: given(2),
    "adaptive_avg_pool2d": lambda: given(floats(1, 3, 8, 8), 2),
    "avg_pool2d": lambda: given(floats(1, 3, 8, 8), 2),
    "max_pool2d": lambda: given(floats(1, 3, 8, 8), 2),
    "batch_norm": lambda: given(floats(4, 3), floats(3), floats(3)),
    "batch_norm_inference": lambda: given(floats(4, 3), floats(3), positive(3), floats(3), floats(3)),
    "conv2d": lambda: given(floats(1, 3, 8, 8), floats(2, 3, 3, 3), floats(2)),
    "dropout2d": lambda: given(floats(1, 3, 8, 8)),
    "upsample": lambda: given(floats(1, 3, 4, 4), 8),
    "BatchSampler": lambda: given(tt_data.SequentialSampler(dataset()), 2, False),
    "BlockShuffleSampler": lambda: given(dataset(), 2),
    "ConcatDataset": lambda: given([dataset(), dataset()]),
    "Conv2d": lambda: given(3, 4, 2),
    "DataLoader": lambda: given(dataset(), 2),
    "ImageDataset": lambda: given(np.zeros((4, 3, 8, 8), np.uint8), np.zeros(4, np.int64)),
    "MemmapDataset": lambda: given(_array_file()),
    "ShardedDataset": lambda: given(_shards()),
    "Subset": lambda: given(dataset(), [0, 2]),
    "SubsetRandomSampler": lambda: given([0, 2]),
    "TensorDataset": lambda: given(np.zeros((4, 3), np.float32), np.zeros(4, np.int64)),
    "Text": lambda: given(_text_file(), 8),
    "Upsample": lambda: given(scale_factor=2.0),
    "WeightedRandomSampler": lambda: given([0.5, 0.5, 1.0], 2),
    "default_collate": lambda: given([(np.zeros(2), 1), (np.ones(2), 0)]),
    "random_split": lambda: given(dataset(), [3, 1]),
    "write_shards": lambda: given(folder(), [(np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.int64))]),
    "datasets.read_idx": lambda: given(_idx_file()),
    "datasets.read_cifar_binary": lambda: given(file(lambda p: p.write_bytes(bytes(3073 * 2)))),
    "transforms.Compose": lambda: given([tt_data.transforms.ToFloat()]),
    "transforms.Cutout": lambda: given(2),
    "transforms.Normalize": lambda: given((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "transforms.RandomAffine": lambda: given(10.0),
    "transforms.RandomCrop": lambda: given(8, 2),
    # tt_language
    "BPETokenizer": lambda: given(dict(bpe().vocab), list(bpe().merges)),
    "CharTokenizer": lambda: given("abc "),
    "Tokenizer": lambda: given([b"a", b"b"]),
    "CompressionReport": lambda: given(10, 10, 5, 8, 4, 4, 4),
    "Embedding": lambda: given(5, 4),
    "PositionalEmbedding": lambda: given(5, 4),
    "RotaryEmbedding": lambda: given(4, 16),
    "SinusoidalEmbedding": lambda: given(5, 4),
    "GPT": lambda: given(tt_language.GPTConfig(vocab_size=16, block_size=8, n_layer=1, n_head=2, n_embd=4)),
    "GPTConfig": lambda: given(vocab_size=16, block_size=8, n_layer=1, n_head=2, n_embd=4),
    "MemoryFootprint": lambda: given({"a": 3}, 4),
    "RMSNorm": lambda: given(3),
    "SwiGLU": lambda: given(4, 8),
    "FeedForward": lambda: given(4, 8),
    "StreamDecoder": lambda: given(characters()),
    "Seq2SeqTransformer": lambda: given(9, 9, 4, 2, 1, 8, 0.0, 8),
    "Transformer": lambda: given(4, 2, 1, 1, 8, dropout=0.0),
    "TransformerEncoderLayer": lambda: given(4, 2, 8, 0.0),
    "TransformerDecoderLayer": lambda: given(4, 2, 8, 0.0),
    "TransformerEncoder": lambda: given(tt_language.TransformerEncoderLayer(4, 2, 8, 0.0), 1),
    "TransformerDecoder": lambda: given(tt_language.TransformerDecoderLayer(4, 2, 8, 0.0), 1),
    "Conv1d": lambda: given(3, 4, 2),
    "ConvTranspose1d": lambda: given(3, 4, 2),
    "ConvTranspose2d": lambda: given(3, 4, 2),
    "CosineAnnealingWarmRestarts": lambda: given(optimizer(), 2),
    "CyclicLR": lambda: given(optimizer(), 0.1, 0.5),
    "SequentialLR": lambda: given(o := optimizer(), [tt_learn.StepLR(o, 2), tt_learn.StepLR(o, 3)], [2]),
    "Fold": lambda: given((4, 4), 2),
    "GroupNorm": lambda: given(2, 4),
    "PixelShuffle": lambda: given(2),
    "PixelUnshuffle": lambda: given(2),
    "Unflatten": lambda: given(1, (3, 1)),
    "LayerDict": lambda: given({"a": linear()}),
    "attention_weights": lambda: given(floats(2, 3, 4), floats(2, 3, 4)),
    "scaled_dot_product_attention": lambda: given(floats(2, 3, 4), floats(2, 3, 4), floats(2, 3, 4)),
    "compression_report": lambda: given(characters(), "abc", 4),
    "embedding": lambda: given(ints(2, 3), floats(5, 4)),
    "generate": lambda: given(gpt(), [[1, 2]], 2, seed=1),
    "stream": lambda: given(gpt(), [1, 2], 2, seed=1),
    "heat_map": lambda: given(positive(3, 3), folder(), ["a", "b", "c"], ["a", "b", "c"]),
    "load_tokenizer": lambda: given(_tokenizer_file()),
    "nearest": lambda: given(floats(5, 4), 1, 2),
    "next_token_loss": lambda: given(floats(2, 3, 4), ints(2, 3)),
    "picture": lambda: given(floats(5, 4), [0, 1, 2], folder()),
    "read_text": lambda: given(_text_file()),
    "rms_norm": lambda: given(floats(2, 3), floats(3)),
    "rotary": lambda: given(floats(2, 3, 4), floats(3, 2), floats(3, 2)),
    "TinyGPT": lambda: given(gpt(), characters()),
    "prepare_model": lambda: given(linear(), in_place=True),
    "replace_layers": lambda: given(stacked(), lambda layer, name: name == "0", lambda layer: tt_core.Identity()),
    "quantize_": lambda: given(stacked(), tt_perf.Int8WeightOnly(), lambda layer, name: True, verbose=False),
    "dequantize_": lambda: given(quantized()),
    "save_quantized": lambda: given(folder(), quantized()),
    "load_quantized": lambda: given(file(lambda path: tt_perf.save_quantized(path, quantized())), stacked()),
    "choose_qparams": lambda: given(-1.0, 3.0, -128, 127, symmetric=False),
    "quantize_affine": lambda: given(floats(2, 3), positive(2, 1), ints(2, 1), quant_min=-8, quant_max=7, dtype="int8"),
    "dequantize_affine": lambda: given(ints(2, 3), positive(2, 1), ints(2, 1)),
    "fake_quantize": lambda: given(floats(2, 3), positive(2, 1), ints(2, 1), quant_min=-8, quant_max=7),
    "quantized_linear": lambda: given(floats(2, 3), *int8(4, 3), None, floats(4)),
    "quantized_linear_input": lambda: given(floats(2, 4), *int8(4, 3), inputs=3),
    "quantized_embedding": lambda: given(ints(2), *int8(4, 3), dim=3),
    "integer_product": lambda: given(*int8(4, 3)[:1] * 2),
    "int8_linear_dynamic": lambda: given(floats(2, 3), *int8(4, 3), floats(4)),
    "int8_linear_static": lambda: given(floats(2, 3), *int8(4, 3), positive(1), ints(1), floats(4)),
    "int8_conv2d": lambda: given(floats(1, 2, 4, 4), *int8(3, 2, 2, 2), None, None, floats(3)),
    "CacheOptions": lambda: given("window", 4, 1),
    "StaticCache": lambda: given(tiny_gpt().config, 8, 2),
    "save_prompt_cache": lambda: given(folder(), filled_cache(), tiny_gpt()),
    "load_prompt_cache": lambda: given(cache_file(), tiny_gpt()),
    "MemoizePlugin": lambda: given("exp", tt_core.Linear),
    "memoize": lambda: given("exp", linear()),
    "Int8Static": lambda: given(calibration()),
    "Int4WeightOnly": lambda: given(32),
    "Int8WeightOnly": given,
    "Int8DynamicActivation": given,
    "MovingAverageMinMaxObserver": lambda: given(0.1, axis=0),
    "PercentileObserver": lambda: given(99.0, axis=0),
    "Calibration.range_of": lambda: given(calibrated()[0], "0"),
    "Observer.observe": lambda: given(floats(2, 3)),
    "Observer.calculate_qparams": lambda: given(-8, 7, symmetric=True),
}

OF_TWO = "divide greater greater_equal less less_equal multiply not_equal subtract true_divide arctan2"
CASES |= dict.fromkeys(OF_TWO.split(" "), lambda: given(floats(2, 3), floats(2, 3)))

# What is called on the result, so that a wrong value is not only stored.
FORWARD: dict[str, Callable[[], tuple[Any, ...]]] = {
    "BCELoss": lambda: (positive(2, 3), positive(2, 3)),
    "BCEWithLogitsLoss": lambda: (floats(2, 3), positive(2, 3)),
    "CrossEntropyLoss": lambda: (floats(2, 3), ints(2)),
    "NLLLoss": lambda: (floats(2, 3), ints(2)),
    "KLDivLoss": lambda: (positive(2, 3).log(), positive(2, 3)),
    "MSELoss": lambda: (floats(2, 3), floats(2, 3)),
    "L1Loss": lambda: (floats(2, 3), floats(2, 3)),
    "SmoothL1Loss": lambda: (floats(2, 3), floats(2, 3)),
    "ContrastiveLoss": lambda: (floats(2, 3), floats(2, 3), ints(2)),
    "InfoNCELoss": lambda: (floats(2, 3), floats(2, 3)),
    "Embedding": lambda: (ints(2, 3),),
    "PositionalEmbedding": lambda: (ints(2, 3),),
    "SinusoidalEmbedding": lambda: (ints(3),),
    "RotaryEmbedding": lambda: (floats(2, 3, 4), ints(3)),
    "GPT": lambda: (ints(2, 3),),
    "get_peft_model": lambda: (ints(2, 3),),
    "load_adapter": lambda: (ints(2, 3),),
    "Seq2SeqTransformer": lambda: (ints(2, 3), ints(2, 3)),
    "FeedForward": lambda: (floats(2, 4),),
    "SwiGLU": lambda: (floats(2, 4),),
    "MultiHeadAttention": lambda: (floats(2, 3, 4),),
    "TransformerBlock": lambda: (floats(2, 3, 4),),
    "TransformerEncoder": lambda: (floats(2, 3, 4),),
    "TransformerDecoder": lambda: (floats(2, 3, 4), floats(2, 3, 4)),
    "AdaptiveAvgPool2d": lambda: (floats(1, 3, 8, 8),),
    "AvgPool2d": lambda: (floats(1, 3, 8, 8),),
    "MaxPool2d": lambda: (floats(1, 3, 8, 8),),
    "MultiheadAttention": lambda: (floats(2, 3, 4), floats(2, 3, 4), floats(2, 3, 4)),
    "InstanceNorm2d": lambda: (floats(2, 3, 4, 4),),
    "Fold": lambda: (floats(1, 12, 9),),
    "GroupNorm": lambda: (floats(2, 4, 3),),
    "PixelShuffle": lambda: (floats(1, 4, 2, 2),),
    "PixelUnshuffle": lambda: (floats(1, 1, 4, 4),),
    "MaxUnpool2d": lambda: (floats(1, 3, 4, 4), ints(1, 3, 4, 4)),
    "BatchNorm2d": lambda: (floats(2, 3, 4, 4),),
    "nn.CosineEmbeddingLoss": lambda: (floats(2, 3), floats(2, 3), ints(2)),
    "nn.GLU": lambda: (floats(2, 4),),
    "nn.GaussianNLLLoss": lambda: (floats(2, 3), floats(2, 3), positive(2, 3)),
    "nn.MarginRankingLoss": lambda: (floats(2, 3), floats(2, 3), floats(2, 3)),
    "nn.MultiMarginLoss": lambda: (floats(2, 3), ints(2)),
    "nn.TripletMarginLoss": lambda: (floats(2, 3), floats(2, 3), floats(2, 3)),
    "BatchNorm1d": lambda: (floats(4, 3),),
    "Conv2d": lambda: (floats(1, 3, 8, 8),),
    "Dropout2d": lambda: (floats(1, 3, 8, 8),),
    "Upsample": lambda: (floats(1, 3, 4, 4),),
}

OF_PAIRS = "CosineSimilarity HingeEmbeddingLoss HuberLoss PairwiseDistance PoissonNLLLoss SoftMarginLoss"
OF_IMAGES = "AdaptiveMaxPool2d CircularPad2d ReflectionPad2d ReplicationPad2d ZeroPad2d Unfold ConvTranspose2d"
OF_SIGNALS = "Conv1d ConvTranspose1d AvgPool1d MaxPool1d InstanceNorm1d"
FORWARD |= dict.fromkeys(OF_IMAGES.split(" "), lambda: (floats(1, 3, 8, 8),))
FORWARD |= dict.fromkeys([f"nn.{name}" for name in OF_PAIRS.split(" ")], lambda: (floats(2, 3), floats(2, 3)))
FORWARD |= dict.fromkeys(OF_SIGNALS.split(" "), lambda: (floats(2, 3, 8),))
FORWARD |= dict.fromkeys(("TransformerEncoderLayer", "EncoderStack", "TransformerEncoder"), lambda: (floats(2, 3, 4),))
FORWARD |= dict.fromkeys(
    ("Transformer", "TransformerDecoderLayer", "TransformerDecoder"), lambda: (floats(2, 3, 4), floats(2, 3, 4))
)

METHODS: dict[str, Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "Distillation.__call__": lambda: given(linear(), (floats(2, 3), ints(2))),
    "Distillation.taught": lambda: given(floats(2, 3)),
    "Tensor.clip": lambda: given(-0.5, 0.5),
    "Profiler.export_chrome_trace": lambda: given(folder()),
    "Profiler.export_stacks": lambda: given(folder(), "flops"),
    "Profiler.key_averages": lambda: given(False, 0),
    "Profiler.roofline": lambda: given(None),
    "Profiler.verdicts": lambda: given(None),
    "DynamicCache.extend": lambda: given(0, floats(2, 2, 1, 4), floats(2, 2, 1, 4)),
    "DynamicCache.update": lambda: given(floats(2, 2, 1, 4), floats(2, 2, 1, 4), 0),
    "DynamicCache.select": lambda: given([1, 0]),
    "DynamicCache.reorder_cache": lambda: given(ints(2)),
    "DynamicCache.crop": lambda: given(2),
    "DynamicCache.batch_repeat_interleave": lambda: given(2),
    "CacheOptions.read": lambda: given("window=4"),
    "KVCachePlugin.remember": lambda: given(_models[-1], filled_cache(_models[-1])),
    "KVCachePlugin.load": lambda: given(cache_file(), tiny_gpt()),
    "KVCachePlugin.save": lambda: given(folder(), _models[-1]),
    "MemoizePlugin.memoize": lambda: given("exp", linear()),
    "Timer.timeit": lambda: given(2),
    "Timer.seconds": lambda: given(2),
    "Timer.blocked_autorange": lambda: given(None, 0.001),
    "Tensor.clamp": lambda: given(-0.5, 0.5),
    "Tensor.size": lambda: given(1),
    "Tensor.stride": lambda: given(1),
    "Tensor.matmul": lambda: given(floats(3, 2)),
    "Tensor.view": lambda: given(3, 2),
    "Tensor.reshape": lambda: given(3, 2),
    "Tensor.expand": lambda: given(4, 2, 3),
    "Tensor.repeat": lambda: given(2, 1),
    "Tensor.permute": lambda: given(1, 0),
    "Tensor.flip": lambda: given(0, 1),
    "Tensor.unflatten": lambda: given(1, (3, 1)),
    "Tensor.split": lambda: given(1, 1),
    "Tensor.chunk": lambda: given(2, 1),
    "Tensor.narrow": lambda: given(1, 0, 2),
    "Tensor.gather": lambda: given(1, ints(2, 2)),
    "Tensor.index_select": lambda: given(1, ints(2)),
    "Tensor.__getitem__": lambda: given((0, slice(1, 3))),
    "Tensor.__setitem__": lambda: given((0, slice(1, 3)), 1.0),
    "Tensor.topk": lambda: given(2),
    "Tensor.norm": lambda: given(2, 1),
    "Tensor.backward": lambda: given(floats(2, 3)),
    "Tensor.register_hook": lambda: given(_identity),
    "Tensor.as_parameter": lambda: given(),
    "Layer.register_buffer": lambda: given("buffer", floats(2)),
    "Layer.register_parameter": lambda: given("extra", tt_core.Parameter([1.0])),
    "Layer.add_layer": lambda: given("below", linear()),
    "Layer.add_module": lambda: given("below", linear()),
    "Layer.register_module": lambda: given("below", linear()),
    "Optimizer.add_param_group": lambda: given({"params": [learned(2)], "lr": 0.5}),
    "Optimizer.step": lambda: given(lambda: 1.0),
    "Trainer.fit": lambda: given(batches(), steps=2, val=batches()),
    "Trainer.evaluate": lambda: given(batches()),
    "Trainer.save": lambda: given(folder()),
    "Trainer.resume": lambda: given(file(trainer().save)),
    "MultiHeadAttention.__call__": lambda: given(floats(2, 3, 4)),
    "RotaryEmbedding.angles": lambda: given(ints(3)),
    "Seq2SeqTransformer.encode": lambda: given(ints(2, 3)),
    "Seq2SeqTransformer.decode": lambda: given(ints(2, 3), floats(2, 3, 4), ints(2, 3)),
    "Seq2SeqTransformer.translate": lambda: given(ints(2, 3), 1, 2, 3),
    "DecoderStack.forward": lambda: given(floats(2, 3, 4), memory=floats(2, 3, 4)),
    "Sequential.append": lambda: given(linear()),
    "Sequential.extend": lambda: given([linear()]),
    "Sequential.insert": lambda: given(1, linear()),
    "Sequential.pop": lambda: given(0),
    "Sequential.__setitem__": lambda: given(0, linear()),
    "ByteTokenizer.load": lambda: given(file(tt_language.ByteTokenizer().save)),
    "CharTokenizer.load": lambda: given(file(characters().save)),
    "GPTConfig.from_dict": lambda: given({"vocab_size": 16, "n_embd": 8, "n_head": 2}),
    "LayerDict.__getitem__": lambda: given("a"),
    "ParameterDict.__getitem__": lambda: given("a"),
    "ParameterDict.__setitem__": lambda: given("b", floats(2)),
    "ParameterList.__getitem__": lambda: given(0),
    "ParameterList.append": lambda: given(floats(2)),
    "ParameterList.extend": lambda: given([floats(2)]),
    "Uniform.log_prob": lambda: given(positive(2, 3)),
    "Bernoulli.log_prob": lambda: given(ints(2, 3)),
    "Categorical.log_prob": lambda: given(ints(2)),
    "Distribution.sample": lambda: given((2,)),
    "Distribution.rsample": lambda: given((2,)),
    "LayerDict.__setitem__": lambda: given("b", linear()),
    "LayerDict.pop": lambda: given("a"),
    "Layer.cuda": lambda: given(),
    "Layer.to": lambda: given("float64"),
    "Layer.get_parameter": lambda: given("weight"),
    "Layer.get_submodule": lambda: given(""),
    "Embedding.from_pretrained": lambda: given(floats(5, 4)),
    "LayerList.append": lambda: given(linear()),
    "LayerList.extend": lambda: given([linear()]),
    "LayerList.insert": lambda: given(1, linear()),
    "LayerList.pop": lambda: given(0),
    "LayerList.__setitem__": lambda: given(0, linear()),
    "LambdaLR.lr_at": lambda: given(2, 0.1),
    "BPETokenizer.train": lambda: given("low low", 257),
    "BPETokenizer.load": lambda: given(_tokenizer_file()),
    "Tokenizer.load": lambda: given(_tokenizer_file()),
    "TinyGPT.generate": lambda: given("ab", 2),
    "Tokenizer.known_ids": lambda: given(5),
    "Sampling.choose": lambda: given(np.zeros(5, np.float32), [1], np.random.default_rng(0)),
    "Sampling.without_repeats": lambda: given(np.zeros(5, np.float32), [1]),
    "BPETokenizer.with_special_tokens": lambda: given(["<|end|>"]),
    "TinyGPT.stop_at": lambda: given([1]),
    "Sampling.penalized": lambda: given(np.zeros(5, np.float32), [1]),
    "Sampling.probabilities": lambda: given(np.zeros(5, np.float32)),
}
"""Valid arguments of methods, beside `self`; those of a base class stand for its subclasses too."""

INSTANCES: dict[str, Callable[[], Any]] = {
    "Tensor": lambda: learned(2, 3) if _needs_history[-1] else floats(2, 3),
    "Layer": linear,
    "Optimizer": optimizer,
    "Trainer": trainer,
    "Scheduler": lambda: tt_learn.StepLR(optimizer(), 2),
    "Profiler": measured,
    "Seq2SeqTransformer": lambda: tt_language.Seq2SeqTransformer(9, 9, 4, 2, 1, 8, 0.0, 8),
    "Calibration": lambda: calibration(),
    "DynamicCache": lambda: updated(tt_perf.DynamicCache()),
    "KVCache": lambda: updated(tt_perf.KVCache()),
    "StaticCache": lambda: tt_perf.StaticCache(tiny_gpt().config),
    "KVCachePlugin": keeping_plugin,
    "MemoizePlugin": lambda: tt_perf.MemoizePlugin(),
    **{f"{kind}Observer": lambda kind=kind: observer(kind) for kind in ("MinMax", "MSE", "Percentile", "Histogram")},
    "MovingAverageMinMaxObserver": lambda: observer("MovingAverageMinMax"),
}
_needs_history = [False]

# --- memory layouts


def _read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "read-only": _read_only,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
    "reversed": lambda array: np.flip(np.flip(array).copy()),
}

# --- the walk over public names


def _ours(thing: Any) -> bool:
    return getattr(thing, "__module__", "").partition(".")[0] in PACKAGES


PACKAGES = {m.__name__: m for m in (tt_core, tt_learn, tt_data, tt_language, tt_perf, tinygpt)}
NAMESPACES = {
    "init.": tt_core.init,
    "transforms.": tt_data.transforms,
    "datasets.": tt_data.datasets,
    "functional.": tt_core.nn.functional,
    "nn.": tt_core.nn,
    "distributions.": tt_core.distributions,
}

SKIPPED = {
    "hookimpl": "pluggy's",
    "hookspec": "pluggy's",
    "op": "a decorator for kernels",
    "MNIST": "downloads",
    "FashionMNIST": "downloads",
    "CIFAR10": "downloads",
    "datasets.MNIST": "downloads",
    "datasets.FashionMNIST": "downloads",
    "datasets.CIFAR10": "downloads",
    "datasets.read_cifar_batch": "reads a pickle",
    "set_num_threads": "changes the process; test_threads tries its arguments",
    "enable_grad": "a decorator",
    "no_grad": "a decorator",
    "formula": "fills a table at import",
    "gradient": "fills a table at import",
    "non_differentiable": "fills a table at import",
    "Function": "used through apply of a subclass",
    "ProfilerActivity": "an enumeration",
    "Calibration": "what calibrating gives",
    "calibrating": "a block",
    "prompt_cached": "a block",
    "KVCache.begin": "is called by the model",
    "Observer": "a base class, used through its subclasses",
    "Report": "a record that quantize_ returns",
    "LambdaLR.lr_at": "takes the factor of its one group",
    "OneCycleLR.lr_at": "takes the peaks of its group",
    "GPT.from_pretrained": "reads a folder of model, configuration and tokenizer",
    "BPETokenizer.from_gpt2": "reads two files",
    "TinyGPT.load": "reads a folder",
    "TinyGPT.read": "reads a folder",
    "TinyGPT.from_pretrained": "reads a folder",
    "TinyGPT.chat": "needs a chat template; test_chat tries its arguments",
    "Captured": "what `capture` returns",
    "Captured.__call__": "hands any arguments on",
    "Trainer.loss_of": "a part of a step, for `capture`",
    "Trainer.check_loss": "a part of a step, for `capture`",
    "KVCache.with_room": "is called by compiled decoding",
    "TinyGPT.save": "writes a folder of a run",
    "WorkerInfo": "a record that get_worker_info returns",
    "LBFGS": "steps with a closure alone",
    "LBFGS.add_param_group": "takes one group",
    "Layer.cuda": "refuses",
    "Layer.get_buffer": "needs a layer with a buffer; test_layers tries it",
    "Generator.set_state": "takes a state of a generator",
    "DecoderStack": "is used with memory",
    "DecoderStack.forward": "is used with memory",
    "CyclicLR.lr_at": "takes the bounds of its group",
    "SequentialLR.lr_at": "asks its schedules",
    "absent": "answers for names that a package lacks",
    "resample": "a kernel of upsample",
    "nn.FunctionLayer": "a base class, used through its subclasses",
    "distributions.Distribution": "a base class, used through its subclasses",
    "distributions.Categorical.rsample": "refuses",
    "distributions.Bernoulli.rsample": "refuses",
    "MemoryFootprint": "a record that memory_footprint returns",
    "CompressionReport": "a record that compression_report returns",
    "Dataset": "a base class, used through its subclasses",
    "IterableDataset": "a base class, used through its subclasses",
    "Sampler": "a base class, used through its subclasses",
    "Scheduler": "a base class, used through its subclasses",
    "Tokenizer": "a base class, used through its subclasses",
    "conv2d_input": "a backward kernel",
    "conv2d_weight": "a backward kernel",
    "max_pool2d_select": "a backward kernel",
    "transforms.affine": "a kernel of RandomAffine",
}
HOOKS = re.compile(r"tt_|on_|update$|check$|state_names$|whole$|backward_|extra_repr$|reset_parameters$|function$")
"""Methods that the framework calls: hooks, the parts of an optimizer that a subclass defines."""


def _namespace(prefix: str, module: Any) -> Iterator[tuple[str, Any]]:
    for name in sorted(dir(module)):
        thing = getattr(module, name)
        if name.startswith("_") or isinstance(thing, types.ModuleType) or not callable(thing) or not _ours(thing):
            continue
        if isinstance(thing, type) and issubclass(thing, BaseException):
            continue
        if prefix and module.__name__ not in thing.__module__:
            continue  # imported there for use
        yield prefix + name, thing


def _callables() -> dict[str, Any]:
    found: dict[str, Any] = dict(registry)
    for prefix, module in [("", m) for m in PACKAGES.values()] + list(NAMESPACES.items()):
        found.update(_namespace(prefix, module))
    found["TinyGPT"] = tinygpt.TinyGPT  # imported when it is asked for
    seen: set[int] = set()
    distinct = {}
    for name, thing in sorted(found.items(), key=lambda entry: ("." in entry[0], entry[0])):
        if id(thing) not in seen:
            seen.add(id(thing))
            distinct[name] = thing
    return {n: t for n, t in distinct.items() if n not in SKIPPED and not (n.endswith("_backward") and n in registry)}


def _methods() -> dict[str, Any]:
    found = {}
    for name, thing in CALLABLES.items():
        if not isinstance(thing, type):
            continue
        for base in thing.__mro__[:-1]:
            if any(base in root.__mro__ and thing is not root for root in (tt_core.Layer, tt_core.Tensor)):
                continue  # once is enough
            for method, function in vars(base).items():
                public = not method.startswith("_") or method in ("__getitem__", "__setitem__", "__call__")
                if base is tt_core.Layer and method in ("__call__", "forward"):
                    continue
                function = getattr(thing, method) if isinstance(function, classmethod) else function
                callable_ = inspect.isfunction(function) or inspect.ismethod(function)
                if not public or not _ours(base) or HOOKS.match(method) or not callable_:
                    continue
                owner = name if method == "__call__" or base.__name__ not in CALLABLES else base.__name__
                if len(inspect.signature(function).parameters) > inspect.isfunction(function):
                    found.setdefault(f"{owner}.{method}", function)
    return found


CALLABLES = _callables()
ALL = {name: thing for name, thing in {**CALLABLES, **_methods()}.items() if name not in SKIPPED}


def split(name: str) -> tuple[str, str]:
    """The class and the method of a name of `ALL`; ("", name) for a function."""
    owner, _, method = name.rpartition(".")
    return (owner, method) if owner in CALLABLES else ("", name)


class NoCase(Exception):
    """A callable for which there is no valid call."""


def _guess(name: str, signature: inspect.Signature, skip: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    parameters = list(signature.parameters.values())[skip:]
    args, kwargs = [], {}
    for p in parameters:
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) or p.default is not p.empty:
            continue
        if p.name not in GUESSES:
            raise NoCase(f"{name}: no value for {p.name}")
        if p.kind is p.KEYWORD_ONLY:
            kwargs[p.name] = GUESSES[p.name]()
        else:
            args.append(GUESSES[p.name]())
    return tuple(args), kwargs


def _instance(owner: str) -> Any:
    return INSTANCES[owner]() if owner in INSTANCES else bound_call(owner)[1]()


@functools.cache
def signature_of(name: str) -> inspect.Signature:
    return inspect.signature(ALL[name])


def bound_call(name: str) -> tuple[inspect.BoundArguments, Callable[[], Any]]:
    """The arguments of a valid call of `name`, defaults filled in, and what calls it with them."""
    target = ALL[name]
    owner, method = split(name)
    if owner:
        _needs_history.append(method in ("backward", "register_hook", "retain_grad", "zero_grad", "requires_grad_"))
        try:
            instance = _instance(owner)
        finally:
            _needs_history.pop()
        signature = signature_of(name)
        base = next((b for b in CALLABLES[owner].__mro__ if f"{b.__name__}.{method}" in METHODS), None)
        if base is not None:
            args, kwargs = METHODS[f"{base.__name__}.{method}"]()
        elif method in ("load_state_dict", "rebuild"):
            args, kwargs = (instance.state_dict(),), {}
        elif method == "__getitem__":
            args, kwargs = (0,), {}
        elif method == "forward":
            args, kwargs = FORWARD.get(owner, lambda: (floats(2, 3),))(), {}
        elif owner.startswith("transforms"):
            args, kwargs = (_images(),), {}
        else:
            args, kwargs = _guess(name, signature, skip=1)
        args = args if inspect.ismethod(target) else (instance, *args)
    else:
        signature = signature_of(name)
        args, kwargs = CASES[name]() if name in CASES else _guess(name, signature, skip=0)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound, lambda: called(name, bound)


def called(name: str, bound: inspect.BoundArguments) -> Any:
    if split(name)[1] == "forward":  # users call the layer
        return bound.args[0](*bound.args[1:], **bound.kwargs)
    return ALL[name](*bound.args, **bound.kwargs)


def exercise(name: str, result: Any) -> Any:
    """Use what a constructor or a generator gave, so that what it stored is used too."""
    if isinstance(result, tt_learn.Optimizer):
        for group in result.param_groups:
            for p in group["params"]:
                p.grad = tt_core.ones(*p.shape)
        if type(result) is not tt_learn.Optimizer:
            result.step()
            result.step()
    elif (
        isinstance(result, (tt_learn.Scheduler, tt_learn.ReduceLROnPlateau)) and type(result) is not tt_learn.Scheduler
    ):
        for _ in range(3):
            result.step(*[0.5] * isinstance(result, tt_learn.ReduceLROnPlateau))
    elif isinstance(result, tt_core.Layer) and name in CALLABLES:
        if type(result).forward is not tt_core.Layer.forward and not isinstance(result, tt_core.LayerList):
            if name == "DecoderStack":
                return result(floats(2, 3, 4), memory=floats(2, 3, 4))
            return result(*FORWARD.get(name, lambda: (floats(2, 3),))())
    elif isinstance(result, tt_learn.Trainer):
        result.fit(batches(), steps=2)
    elif name == "use":
        tt_core.disable("profiler")  # which would measure all calls that follow
    elif isinstance(result, contextlib._GeneratorContextManager):
        with result:
            pass
    elif isinstance(result, (tt_data.DataLoader, tt_data.Sampler, tt_data.BatchSampler)):
        return list(itertools.islice(result, 4)) if type(result) is not tt_data.Sampler else None
    elif isinstance(result, Iterator):
        return list(itertools.islice(result, 4))
    elif isinstance(result, tt_data.Dataset) and name in CALLABLES and type(result) is not tt_data.Dataset:
        return result[0] if len(result) else None
    elif name in CALLABLES and name.startswith("transforms.") and callable(result):
        return result(_images())
    return result


# --- arrays in arguments and results


def arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, tt_core.Tensor):
        yield value.data
    elif isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from arrays(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from arrays(part)


def snapshot(bound: inspect.BoundArguments) -> list[tuple[Any, Any]]:
    return [(array, array.copy()) for array in arrays(list(bound.arguments.values()))]


def same(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.tobytes() == b.tobytes() if a.dtype.kind != "O" else bool((a == b).all())


# --- which calls are left out


HEAVY = re.compile(r"Transformer|GPT|generate|stream|MultiHead|Trainer|DataLoader|Muon|Sharded|TinyGPT|write_shards")
"""Callables that take milliseconds: the short form gives them every third wrong value."""


KEPT = re.compile(r"init\.|Layer|.*_$|Tensor\.__setitem__|.*Dataset|from_numpy|empty|checkpoint$|grad|draw_graph")
"""Calls that write to their argument, hand out its memory as it is, or need its history."""
