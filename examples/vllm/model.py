# SPDX-License-Identifier: MIT
"""Writes a tiny Llama with random weights: model.py DIRECTORY.

vLLM's own dummy weights are so small that attention does not count and every cache, right or wrong, leads to the same
answer. These are large enough that one other token at the start of a prompt changes what is said after it.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

HIDDEN, MLP, LAYERS, HEADS, KV_HEADS, HEAD, VOCABULARY = 256, 512, 8, 8, 4, 32, 4096

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_act": "silu",
    "hidden_size": HIDDEN, "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "vocab_size": VOCABULARY, "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
}


def weights():
    random = torch.Generator().manual_seed(1)

    def matrix(rows, columns):
        return torch.randn(rows, columns, generator=random) * 1.5 * columns**-0.5

    yield "model.embed_tokens.weight", torch.randn(VOCABULARY, HIDDEN, generator=random)
    yield "model.norm.weight", torch.ones(HIDDEN)
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        yield name + "input_layernorm.weight", torch.ones(HIDDEN)
        yield name + "post_attention_layernorm.weight", torch.ones(HIDDEN)
        yield name + "self_attn.q_proj.weight", matrix(HEADS * HEAD, HIDDEN)
        yield name + "self_attn.k_proj.weight", matrix(KV_HEADS * HEAD, HIDDEN)
        yield name + "self_attn.v_proj.weight", matrix(KV_HEADS * HEAD, HIDDEN)
        yield name + "self_attn.o_proj.weight", matrix(HIDDEN, HEADS * HEAD)
        yield name + "mlp.gate_proj.weight", matrix(MLP, HIDDEN)
        yield name + "mlp.up_proj.weight", matrix(MLP, HIDDEN)
        yield name + "mlp.down_proj.weight", matrix(HIDDEN, MLP)


directory = pathlib.Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
(directory / "config.json").write_text(json.dumps(CONFIG))
save_file(dict(weights()), directory / "model.safetensors", metadata={"format": "pt"})
