#!/usr/bin/env python3
"""Merging a large synthetic checkpoint: time against the disk's own copy, and peak memory.

    python tests/bench/merge.py --vlft target/release/vlft --dir /some/disk --layers 36

36 layers are the shapes of Qwen3-VL-8B (17.5 GB in bf16); fewer make it smaller. Base, adapter and outputs
lie in DIR/vlft-merge-bench, which is removed at the end. Needs numpy, and twice the checkpoint's size of disk.
Each figure is of one process after `sync`; caches are dropped before each where the system allows it.
"""
import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import time

import numpy as np

D, FFN, VOCAB, KV = 4096, 12288, 151936, 1024
DV, DV_FFN, DEPTH = 1152, 4304, 27
SHARD = 5_000_000_000


def tensors(layers):
    yield "lm_head.weight", [VOCAB, D]
    yield "model.language_model.embed_tokens.weight", [VOCAB, D]
    for i in range(layers):
        p = f"model.language_model.layers.{i}."
        for name, shape in [("input_layernorm", [D]), ("mlp.down_proj", [D, FFN]), ("mlp.gate_proj", [FFN, D]),
                            ("mlp.up_proj", [FFN, D]), ("post_attention_layernorm", [D]), ("self_attn.k_norm", [128]),
                            ("self_attn.k_proj", [KV, D]), ("self_attn.o_proj", [D, D]), ("self_attn.q_norm", [128]),
                            ("self_attn.q_proj", [D, D]), ("self_attn.v_proj", [KV, D])]:
            yield p + name + ".weight", shape
    yield "model.language_model.norm.weight", [D]

    def both(name, shape):
        yield f"model.visual.{name}.bias", shape[:1]
        yield f"model.visual.{name}.weight", shape
    for i in range(DEPTH):
        for name, shape in [("attn.proj", [DV, DV]), ("attn.qkv", [3 * DV, DV]), ("mlp.linear_fc1", [DV_FFN, DV]),
                            ("mlp.linear_fc2", [DV, DV_FFN]), ("norm1", [DV]), ("norm2", [DV])]:
            yield from both(f"blocks.{i}.{name}", shape)
    for merger, norm in [("deepstack_merger_list.0", 4 * DV), ("deepstack_merger_list.1", 4 * DV),
                         ("deepstack_merger_list.2", 4 * DV), ("merger", DV)]:
        for name, shape in [("linear_fc1", [4 * DV, 4 * DV]), ("linear_fc2", [D, 4 * DV]), ("norm", [norm])]:
            yield from both(f"{merger}.{name}", shape)
    yield from both("patch_embed.proj", [DV, 3, 2, 16, 16])
    yield "model.visual.pos_embed.weight", [2304, DV]


def config(layers):
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "image_token_id": 151655,
        "tie_word_embeddings": False,
        "text_config": {"vocab_size": VOCAB, "hidden_size": D, "intermediate_size": FFN, "num_hidden_layers": layers,
                        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
                        "rope_theta": 5000000, "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20],
                                                                "rope_type": "default"}},
        "vision_config": {"depth": DEPTH, "hidden_size": DV, "intermediate_size": DV_FFN, "num_heads": 16, "patch_size": 16,
                          "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": D,
                          "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
                          "hidden_act": "gelu_pytorch_tanh"},
    }


def write_safetensors(path, items, bytes_per, block):
    """Tensors of values out of `block`, from changing places of it."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in items:
        size = int(np.prod(shape)) * bytes_per
        header[name] = {"dtype": {2: "BF16", 4: "F32"}[bytes_per], "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 0
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in items:
            left = int(np.prod(shape)) * bytes_per
            while left:
                n = min(left, len(block) - start)
                f.write(block[start:start + n])
                left -= n
                start = (start + n + 4096) % (len(block) - 4096) & ~7
    return offset


def make(root, layers, rank):
    rng = np.random.default_rng(1)
    values = (rng.standard_normal(1 << 25).astype(np.float32) * 0.02)
    block = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    base = os.path.join(root, "base")
    os.makedirs(base)
    with open(os.path.join(base, "config.json"), "w") as f:
        json.dump(config(layers), f)
    shards, size = [[]], 0
    for name, shape in tensors(layers):
        n = int(np.prod(shape)) * 2
        if size + n > SHARD:
            shards.append([])
            size = 0
        size += n
        shards[-1].append((name, shape))
    weight_map, total = {}, 0
    for i, items in enumerate(shards, 1):
        name = f"model-{i:05}-of-{len(shards):05}.safetensors"
        total += write_safetensors(os.path.join(base, name), items, 2, block)
        weight_map.update({tensor: name for tensor, _ in items})
    with open(os.path.join(base, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, f)
    adapter = os.path.join(root, "adapter")
    os.makedirs(adapter)
    linear = [(n[:-len(".weight")], s) for n, s in tensors(layers) if ".layers." in n and n.endswith("_proj.weight")]
    items = []
    for module, (out, inner) in linear:
        items += [(f"base_model.model.{module}.lora_A.weight", [rank, inner]),
                  (f"base_model.model.{module}.lora_B.weight", [out, rank])]
    write_safetensors(os.path.join(adapter, "adapter_model.safetensors"), items, 4, values.tobytes())
    with open(os.path.join(adapter, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none",
                   "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}, f)
    return base, adapter, total


def cold():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


def timed(command):
    dropped = cold()
    start = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    os.sync()
    seconds = time.time() - start
    if status:
        sys.exit(f"{command} failed")
    return seconds, usage.ru_maxrss * 1024, dropped


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--vlft", required=True)
    ap.add_argument("--dir", required=True)
    ap.add_argument("--layers", type=int, default=36)
    ap.add_argument("--rank", type=int, default=16)
    ap.add_argument("--rounds", type=int, default=1)
    ap.add_argument("--verify", action="store_true")
    a = ap.parse_args()
    root = os.path.join(a.dir, "vlft-merge-bench")
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    try:
        base, adapter, total = make(root, a.layers, a.rank)
        out = os.path.join(root, "out")
        ratios = []
        for _ in range(a.rounds):
            copy, _, dropped = timed(["cp", "-r", "--reflink=never", base, out])
            shutil.rmtree(out)
            merge, peak, _ = timed([a.vlft, "-q", "merge", "--model", base, "--adapter", adapter, "--out", out])
            ratios.append(copy / merge)
            print(f"{total / 1e9:.1f} GB: cp {copy:.1f} s ({total / copy / 1e6:.0f} MB/s), merge {merge:.1f} s "
                  f"({total / merge / 1e6:.0f} MB/s), {copy / merge:.2f} of the copy's speed, peak {peak / 2**20:.0f} MiB, "
                  f"caches {'dropped' if dropped else 'as they were'}", flush=True)
            if a.verify:
                seconds, peak, _ = timed([a.vlft, "-q", "verify", out, "--model", base, "--adapter", adapter])
                print(f"verify {seconds:.1f} s, peak {peak / 2**20:.0f} MiB", flush=True)
            shutil.rmtree(out)
        ratio = sorted(ratios)[len(ratios) // 2]
        print(f"goal 0.5 of the copy's speed: {ratio:.2f}, {'met' if ratio >= 0.5 else 'MISSED'}")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
