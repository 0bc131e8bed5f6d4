"""Act V, Production: profiling, quantization, compression, caching, compiled loops and benchmarking."""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from tt_core.engine.later import absent as _absent
from tt_perf.__about__ import __version__ as __version__
from tt_perf.acceleration import Captured as Captured
from tt_perf.acceleration import CaptureWarning as CaptureWarning
from tt_perf.acceleration import capture as capture
from tt_perf.benchmarking import Measurement as Measurement
from tt_perf.benchmarking import Timer as Timer
from tt_perf.benchmarking import compare as compare
from tt_perf.compression import CompressionError as CompressionError
from tt_perf.compression import Distillation as Distillation
from tt_perf.compression import DistillationTrainer as DistillationTrainer
from tt_perf.compression import GradualPruning as GradualPruning
from tt_perf.compression import distillation_loss as distillation_loss
from tt_perf.compression import load_compressed as load_compressed
from tt_perf.compression import low_rank_ as low_rank_
from tt_perf.compression import prune_ as prune_
from tt_perf.compression import remove_masks_ as remove_masks_
from tt_perf.compression import shrink_ as shrink_
from tt_perf.lora import LoraConfig as LoraConfig
from tt_perf.lora import get_peft_model as get_peft_model
from tt_perf.lora import load_adapter as load_adapter
from tt_perf.lora import save_adapter as save_adapter
from tt_perf.memoization import CacheError as CacheError
from tt_perf.memoization import CacheOptions as CacheOptions
from tt_perf.memoization import DynamicCache as DynamicCache
from tt_perf.memoization import KVCache as KVCache
from tt_perf.memoization import KVCachePlugin as KVCachePlugin
from tt_perf.memoization import MemoizePlugin as MemoizePlugin
from tt_perf.memoization import StaticCache as StaticCache
from tt_perf.memoization import load_prompt_cache as load_prompt_cache
from tt_perf.memoization import memoize as memoize
from tt_perf.memoization import prompt_cached as prompt_cached
from tt_perf.memoization import save_prompt_cache as save_prompt_cache
from tt_perf.profiling import Profiler as Profiler
from tt_perf.profiling import ProfilerActivity as ProfilerActivity
from tt_perf.profiling import ProfilerError as ProfilerError
from tt_perf.profiling import profile as profile
from tt_perf.profiling import record_function as record_function
from tt_perf.profiling import schedule as schedule
from tt_perf.profiling import summary as summary
from tt_perf.quantization import Calibration as Calibration
from tt_perf.quantization import HistogramObserver as HistogramObserver
from tt_perf.quantization import Int4WeightOnly as Int4WeightOnly
from tt_perf.quantization import Int8DynamicActivation as Int8DynamicActivation
from tt_perf.quantization import Int8Static as Int8Static
from tt_perf.quantization import Int8WeightOnly as Int8WeightOnly
from tt_perf.quantization import MinMaxObserver as MinMaxObserver
from tt_perf.quantization import MovingAverageMinMaxObserver as MovingAverageMinMaxObserver
from tt_perf.quantization import MSEObserver as MSEObserver
from tt_perf.quantization import Observer as Observer
from tt_perf.quantization import PercentileObserver as PercentileObserver
from tt_perf.quantization import QuantizationError as QuantizationError
from tt_perf.quantization import calibrating as calibrating
from tt_perf.quantization import choose_qparams as choose_qparams
from tt_perf.quantization import dequantize_ as dequantize_
from tt_perf.quantization import dequantize_affine as dequantize_affine
from tt_perf.quantization import fake_quantize as fake_quantize
from tt_perf.quantization import load_quantized as load_quantized
from tt_perf.quantization import quantize_ as quantize_
from tt_perf.quantization import quantize_affine as quantize_affine
from tt_perf.quantization import save_quantized as save_quantized

if not _TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = _absent("tt_perf")
