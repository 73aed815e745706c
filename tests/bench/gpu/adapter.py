"""A first adapter that both sides start from: PEFT's start (A uniform in +-1/sqrt(in), B zero) from a seed, on the
seven linear layers of every layer of the language model, written without loading the model."""

import json
import pathlib

import numpy as np

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def shapes(model):
    """(module, in, out) of each."""
    text = json.loads((pathlib.Path(model) / "config.json").read_text())["text_config"]
    d, f, dh = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    q, k = dh * text["num_attention_heads"], dh * text["num_key_value_heads"]
    sizes = [(d, q), (d, k), (d, k), (q, d), (d, f), (d, f), (f, d)]
    for layer in range(text["num_hidden_layers"]):
        for name, (inputs, outputs) in zip(TARGETS, sizes):
            part = "mlp" if name in TARGETS[4:] else "self_attn"
            yield f"model.language_model.layers.{layer}.{part}.{name}", inputs, outputs


def write(model, out, rank=16, alpha=32, seed=7):
    out = pathlib.Path(out)
    if (out / "adapter_config.json").exists():
        return out
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    header, blobs, offset = {}, [], 0
    for module, inputs, outputs in shapes(model):
        bound = 1 / np.sqrt(inputs)
        for side, values in (("A", rng.uniform(-bound, bound, (rank, inputs)).astype("<f4")),
                             ("B", np.zeros((outputs, rank), "<f4"))):
            name = f"base_model.model.{module}.lora_{side}.weight"
            header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
            blobs.append(values.tobytes())
            offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(out / "adapter_model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(blobs)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(model), "r": rank,
              "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "inference_mode": False,
              "init_lora_weights": True, "use_rslora": False, "use_dora": False, "modules_to_save": None,
              # Names alone would adapt nothing in the vision tower either, but this says it.
              "target_modules": r".*language_model.*\.(" + "|".join(TARGETS) + ")"}
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1))
    return out
