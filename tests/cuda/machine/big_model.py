"""Qwen3-VL-8B without its weights: the folder of a model whose safetensors file is all hole, and
records of page-sized images, for runs in which kernels are only counted. And a small model with random
weights whose sides are multiples of what tensor cores take, for runs in bf16."""
import json
import pathlib
import random
import shutil
import struct
import zlib

# https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct/blob/main/config.json
TEXT = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "dtype": "bfloat16"}
ROPE = [24, 20, 20]
VISION = {"hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "num_heads": 16, "out_hidden_size": 4096,
          "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24]}
PIXELS = 1280 * 1024  # 1,280 visual tokens
EIGHT_B = (TEXT, ROPE, VISION)

SMALL = ({"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 64, "dtype": "bfloat16"}, [12, 10, 10],
         {"hidden_size": 128, "intermediate_size": 256, "depth": 2, "num_heads": 2, "out_hidden_size": 128,
          "num_position_embeddings": 64, "deepstack_visual_indexes": [0]})


def shapes(text, vision):
    """Names and shapes of the tensors of a model whose `config.json` has these sections."""
    h, i, v = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    d, heads, kv = text["head_dim"], text["num_attention_heads"], text["num_key_value_heads"]
    yield "lm_head.weight", [v, h]
    yield "model.language_model.embed_tokens.weight", [v, h]
    yield "model.language_model.norm.weight", [h]
    for n in range(text["num_hidden_layers"]):
        at = f"model.language_model.layers.{n}."
        for name, shape in (("input_layernorm", [h]), ("post_attention_layernorm", [h]), ("self_attn.q_norm", [d]),
                            ("self_attn.k_norm", [d]), ("self_attn.q_proj", [heads * d, h]), ("self_attn.k_proj", [kv * d, h]),
                            ("self_attn.v_proj", [kv * d, h]), ("self_attn.o_proj", [h, heads * d]), ("mlp.gate_proj", [i, h]),
                            ("mlp.up_proj", [i, h]), ("mlp.down_proj", [h, i])):
            yield f"{at}{name}.weight", shape
    w, m = vision["hidden_size"], vision["intermediate_size"]
    yield "model.visual.patch_embed.proj.weight", [w, 3, 2, 16, 16]
    yield "model.visual.patch_embed.proj.bias", [w]
    yield "model.visual.pos_embed.weight", [vision["num_position_embeddings"], w]
    for n in range(vision["depth"]):
        for name, shape in (("norm1", [w]), ("norm2", [w]), ("attn.qkv", [3 * w, w]), ("attn.proj", [w, w]),
                            ("mlp.linear_fc1", [m, w]), ("mlp.linear_fc2", [w, m])):
            yield f"model.visual.blocks.{n}.{name}.weight", shape
            yield f"model.visual.blocks.{n}.{name}.bias", shape[:1]
    mergers = ["model.visual.merger."] + [f"model.visual.deepstack_merger_list.{n}." for n in range(len(vision["deepstack_visual_indexes"]))]
    for at in mergers:
        for name, shape in (("norm", [w if at == mergers[0] else 4 * w]), ("linear_fc1", [4 * w, 4 * w]), ("linear_fc2", [h, 4 * w])):
            yield f"{at}{name}.weight", shape
            yield f"{at}{name}.bias", shape[:1]


def bf16(rng, name, count):
    """Norms near one, the rest as at the start of a training, as bytes."""
    mean, spread = (1.0, 0.1) if "norm" in name and name.endswith("weight") else (0.0, 0.05)
    floats = struct.pack(f"<{count}f", *(rng.gauss(mean, spread) for _ in range(count)))
    return b"".join(floats[at + 2:at + 4] for at in range(0, 4 * count, 4))


def model(folder, tiny, sizes=EIGHT_B, seed=None):
    """`folder` with the configuration and the tensors of a model; the tokenizer is the tiny model's. Without a
    seed no byte of the weights is written."""
    text, rope, vision = sizes
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].update(text)
    config["text_config"]["rope_scaling"]["mrope_section"] = rope
    config["vision_config"].update(vision)
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in shapes(config["text_config"], vision):
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        if seed is None:
            out.truncate(8 + len(text) + at)
            return
        rng = random.Random(seed)
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            out.write(bf16(rng, name, (end - start) // 2))


def png(path, width, height):
    row = b"\0" + b"\xff" * width
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b""))


def records(folder, pages, tokens, count=4):
    """Records of `pages` pages, a prompt, and an answer of 600 tokens, about `tokens` together."""
    folder.mkdir(parents=True)
    png(folder / "page.png", 1280, 1024)
    # With the tiny tokenizer a digit is a token.
    prompt = "7" * (tokens - 1280 * pages - 600 - 40)
    images = [{"type": "image", "image": "page.png"}] * pages
    path = pathlib.Path(folder / "train.jsonl")
    with open(path, "w", encoding="utf-8") as out:
        for n in range(count):
            user = [*images, {"type": "text", "text": prompt}]
            answer = [{"type": "text", "text": "3" * 600}]
            messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
            out.write(json.dumps({"id": f"page-{n}", "messages": messages}) + "\n")
    return path
