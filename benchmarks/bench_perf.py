"""Act V: greedy generation and the size of a model, a curve for each plugin; compressed models; caches."""

from __future__ import annotations

from typing import Any

from .support import activate, applicable, faster, integers, normal, plugins, speedup


def bytes_of(model: Any) -> int:
    """Bytes of all parameters and buffers; what layers share counts once."""
    arrays = {id(x.data): x.nbytes for x in (*model.parameters(), *model.buffers())}
    return sum(arrays.values())


class Generation:
    """32 tokens after a prompt of 16 or 192, from a GPT of 4 layers, 4 heads and 128 dimensions."""

    params = (plugins("none", "kv-cache", "kv-cache-int8", "profiler", "int8", "int4", "jit"), [16, 192])
    param_names = ("plugin", "prompt")

    def setup(self, plugin: str, prompt: int) -> None:
        with applicable():
            from tt_core import tensor
            from tt_language import GPT, GPTConfig, generate
        activate(plugin)
        self.model = GPT(GPTConfig(vocab_size=512, block_size=256, n_layer=4, n_head=4, n_embd=128, dropout=0.0))
        self.model.eval()
        self.generate, self.prompt = generate, tensor(integers(512, 1, prompt))
        generate(self.model, self.prompt, 1)  # compiles what a plugin compiles at the first call

    def time_32_tokens(self, plugin: str, prompt: int) -> None:
        self.generate(self.model, self.prompt, 32, temperature=0.0)

    def track_speedup_32_tokens(self, plugin: str, prompt: int) -> float:
        return speedup(plugin, lambda: self.time_32_tokens(plugin, prompt))

    track_speedup_32_tokens.unit = "times as fast"  # type: ignore[attr-defined]


class CapturedStep:
    """A training step of 784-128-10 on 64 images, and of a GPT of 4 layers on 12 x 64 tokens, recorded and replayed."""

    params = (["none", "jit"], ["mlp", "gpt"])
    param_names = ("plugin", "model")

    def setup(self, plugin: str, model: str) -> None:
        with applicable():
            from tt_perf import capture
            from tt_perf.benchmarking.jobs import JOBS
        activate(plugin)
        self.plain = JOBS[f"{model}-step"].build()
        self.step = capture(JOBS[f"{model}-step"].build())
        for _ in range(3):  # two are recorded
            self.step()

    def time_step(self, plugin: str, model: str) -> None:
        self.step()

    def track_speedup_step(self, plugin: str, model: str) -> float:
        return faster(self.plain, self.step)

    track_speedup_step.unit = "times as fast"  # type: ignore[attr-defined]


class Decoding:
    """32 tokens after a prompt of 16 with the plugin kv-cache, from a GPT of 6 layers, 6 heads and 384 dimensions."""

    params = (plugins("none", "jit"), ["float", "int8", "int4"])
    param_names = ("plugin", "weights")

    def setup(self, plugin: str, weights: str) -> None:
        with applicable():
            from tt_core import use
            from tt_language import GPT, GPTConfig, generate
            from tt_perf import Int4WeightOnly, Int8WeightOnly, KVCachePlugin, quantize_
        activate(plugin)
        self.model = GPT(GPTConfig(vocab_size=1024, block_size=128, n_layer=6, n_head=6, n_embd=384)).eval()
        if weights != "float":
            quantize_(self.model, Int8WeightOnly() if weights == "int8" else Int4WeightOnly(64), verbose=False)
        self.generate, self.prompt = generate, integers(1024, 1, 16).tolist()
        self.plugged = use(KVCachePlugin())
        generate(self.model, self.prompt, 2)  # compiles what a plugin compiles at the first call

    def time_32_tokens(self, plugin: str, weights: str) -> None:
        self.generate(self.model, self.prompt, 32, temperature=0.0)

    def track_speedup_32_tokens(self, plugin: str, weights: str) -> float:
        return speedup(plugin, lambda: self.time_32_tokens(plugin, weights))

    track_speedup_32_tokens.unit = "times as fast"  # type: ignore[attr-defined]


class Prefix:
    """The first token after 192, of which the first 160 were read before: by the cache of that text, or again."""

    params = (["read again", "reused"],)
    param_names = ("prefix",)

    def setup(self, prefix: str) -> None:
        with applicable():
            from tt_core import use
            from tt_language import GPT, GPTConfig, generate
            from tt_perf import KVCachePlugin
        self.model = GPT(GPTConfig(vocab_size=512, block_size=256, n_layer=4, n_head=4, n_embd=128)).eval()
        self.generate, self.prompt = generate, integers(512, 192).tolist()
        self.plugged = use(KVCachePlugin(reuse=64 if prefix == "reused" else 0))
        generate(self.model, self.prompt[:161], 1)

    def time_a_token(self, prefix: str) -> None:
        self.generate(self.model, self.prompt, 1, temperature=0.0)


class Memoize:
    """A frozen convolutional network on a batch that it has seen, such as features of images in each epoch."""

    params = (plugins("none", "memoize"),)
    param_names = ("plugin",)

    def setup(self, plugin: str) -> None:
        with applicable():
            from tt_core import ReLU, Sequential, tensor
            from tt_data import Conv2d
            from tt_learn import no_grad
            from tt_perf import memoize
        activate(plugin)
        self.model = Sequential(Conv2d(3, 16, 3, padding=1), ReLU(), Conv2d(16, 32, 3, padding=1)).eval()
        memoize(self.model)
        self.no_grad, self.images = no_grad, tensor(normal(16, 3, 32, 32))
        self.time_forward(plugin)

    def time_forward(self, plugin: str) -> None:
        with self.no_grad():
            self.model(self.images)

    def track_speedup_forward(self, plugin: str) -> float:
        return speedup(plugin, lambda: self.time_forward(plugin))

    track_speedup_forward.unit = "times as fast"  # type: ignore[attr-defined]


class ModelSize:
    """Bytes of a GPT of 4 layers and 256 dimensions as a plugin prepares it to generate, each array counted once."""

    params = (plugins("none", "kv-cache", "int8", "int4", "jit"),)
    param_names = ("plugin",)

    def setup(self, plugin: str) -> None:
        with applicable():
            from tt_core import prepare_model
            from tt_language import GPT, GPTConfig
        activate(plugin)
        model = GPT(GPTConfig(vocab_size=8192, block_size=64, n_layer=4, n_head=4, n_embd=256)).eval()
        self.model = prepare_model(model)

    def track_bytes(self, plugin: str) -> int:
        return bytes_of(self.model)

    track_bytes.unit = "bytes"  # type: ignore[attr-defined]


class Quantization:
    """A GPT of 4 layers and 256 dimensions as integers: bytes, and the time of one token's logits."""

    params = (["float", "int8", "int8-dynamic", "int4"], ["none", "jit"])
    param_names = ("weights", "plugin")

    def setup(self, weights: str, plugin: str) -> None:
        with applicable():
            from tt_core import tensor
            from tt_language import GPT, GPTConfig
            from tt_learn import evaluating
            from tt_perf import Int4WeightOnly, Int8DynamicActivation, Int8WeightOnly, quantize_
        activate(plugin)
        self.model = GPT(GPTConfig(vocab_size=8192, block_size=64, n_layer=4, n_head=4, n_embd=256)).eval()
        configs = {"int8": Int8WeightOnly(), "int8-dynamic": Int8DynamicActivation(), "int4": Int4WeightOnly(64)}
        if weights in configs:
            quantize_(self.model, configs[weights], verbose=False)
        self.evaluating, self.token = evaluating, tensor(integers(8192, 1, 1))
        self.time_a_token(weights, plugin)  # compiles what a plugin compiles at the first call

    def time_a_token(self, weights: str, plugin: str) -> None:
        with self.evaluating(self.model):
            self.model(self.token)

    def track_bytes(self, weights: str, plugin: str) -> int:
        return bytes_of(self.model)

    track_bytes.unit = "bytes"  # type: ignore[attr-defined]


class Compression:
    """A GPT of 6 layers, 6 heads and 384 dimensions, with masks on half its weights or without half its units."""

    params = (plugins("none", "jit"), ["dense", "pruned", "shrunk", "low rank"])
    param_names = ("plugin", "form")

    def setup(self, plugin: str, form: str) -> None:
        with applicable():
            from tt_core import cross_entropy, tensor
            from tt_language import GPT, GPTConfig
            from tt_learn import AdamW
            from tt_perf import low_rank_, prune_, shrink_
        activate(plugin)
        self.model = GPT(GPTConfig(vocab_size=65, block_size=128, n_layer=6, n_head=6, n_embd=384, dropout=0.0))
        self.ids, self.cross_entropy = tensor(integers(65, 4, 65)), cross_entropy
        if form == "pruned":
            prune_(self.model, 0.5)
        if form == "shrunk":
            shrink_(self.model, 0.5, self.ids[:1, :16])
        if form == "low rank":
            low_rank_(self.model, rank=96)
        self.optimizer = AdamW(self.model.parameters())
        self.time_step(plugin, form)  # compiles what a plugin compiles at the first call

    def time_step(self, plugin: str, form: str) -> None:
        self.optimizer.zero_grad()
        logits = self.model(self.ids[:, :-1])
        self.cross_entropy(logits.reshape(-1, 65), self.ids[:, 1:].reshape(-1)).backward()
        self.optimizer.step()

    def track_speedup_step(self, plugin: str, form: str) -> float:
        return speedup(plugin, lambda: self.time_step(plugin, form), rounds=5)

    track_speedup_step.unit = "times as fast"  # type: ignore[attr-defined]

    def track_bytes(self, plugin: str, form: str) -> int:
        return sum(p.nbytes for p in self.model.parameters())

    track_bytes.unit = "bytes"  # type: ignore[attr-defined]
