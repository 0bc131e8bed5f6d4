"""Module 20, capstone: a model in the formats of other programs.

`onnx_graph` writes the model as a graph of ONNX's operators, which `onnx_check` compares with the model; `gguf_file`
writes the file of llama.cpp. Hugging Face's format is `TinyGPT.save_pretrained`. `job` is the command.
"""
