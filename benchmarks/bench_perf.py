"""Act V: greedy generation, a curve for each plugin; `kv-cache` must not slow down with the context."""

from __future__ import annotations

from .support import activate, applicable, integers, plugins


class Generation:
    """32 tokens after a prompt of 16 or 192, from a GPT of 4 layers, 4 heads and 128 dimensions."""

    params = (plugins("none", "kv-cache", "profiler", "int8", "int4", "jit"), [16, 192])
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
        arrays = {id(x.data): x.nbytes for x in (*self.model.parameters(), *self.model.buffers())}
        return sum(arrays.values())

    track_bytes.unit = "bytes"  # type: ignore[attr-defined]
