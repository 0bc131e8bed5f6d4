"""Act V: greedy generation, a curve for each plugin; `kv-cache` must not slow down with the context."""

from __future__ import annotations

from .support import activate, applicable, integers, plugins


class Generation:
    """32 tokens after a prompt of 16 or 192, from a GPT of 4 layers, 4 heads and 128 dimensions."""

    params = (plugins("none", "kv-cache", "profiler", "int8", "jit"), [16, 192])
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
