"""The reference: transformers + PEFT (sdpa, bf16), with bitsandbytes for four bits.

The same frozen weights, records, first adapter, order, learning rate and clipping as `vlft bench`, with what people
switch on to make it fast and small: gradient checkpointing, fused AdamW, autocast to bf16, samples made before the
first step (ours are made while steps run, and that time counts). One JSON object on the last line.

    peer.py train --model M --data train.jsonl --adapter A --base bf16 --steps 50 --device cuda:0
    peer.py rate --device cuda:0
"""

import argparse
import json
import os
import resource
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch


def synchronize(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def rate(device):
    """Operations a second of a large bf16 product: the best of five rounds."""
    on_gpu = device.startswith("cuda")
    side, products = (8192, 20) if on_gpu else (512, 2)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    a @ b
    best = float("inf")
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(products):
            a @ b
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / products)
    return {"operations_per_second": 2 * side**3 / best, "side": side}


def load_model(args):
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    # The files are in bf16: in f32 they are the same numbers, computed with in f32.
    dtype = torch.float32 if args.compute == "f32" else torch.bfloat16
    options = {"dtype": dtype, "attn_implementation": "sdpa", "device_map": {"": args.device}}
    if args.base == "nf4":
        # As vlft's default: the linear layers of the language model, and nothing else. Whole paths: transformers 5 takes a
        # part of one for another module, and would quantise the vision tower.
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=torch.uint8, llm_int8_skip_modules=["model.visual", "lm_head", "model.language_model.embed_tokens"])
    model = AutoModelForImageTextToText.from_pretrained(args.model, **options)
    if args.base == "nf4":
        kinds = {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
        text = model.config.text_config
        assert len(kinds) == 7 * text.num_hidden_layers and all("language_model" in name for name in kinds), sorted(kinds)[:20]
    model.config.use_cache = False
    return model, dtype


def samples(args):
    """Every record as tensors: ids, labels (the answer and the end of its turn), pixels."""
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(args.model)
    if args.max_pixels:
        images = processor.image_processor
        images.size = {"shortest_edge": images.size["shortest_edge"], "longest_edge": args.max_pixels}
    root = os.path.dirname(os.path.abspath(args.data))
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    head = processor.tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    made = []
    for line in open(args.data, encoding="utf-8"):
        messages = json.loads(line)["messages"]
        pictures = [Image.open(os.path.join(root, part["image"])).convert("RGB")
                    for message in messages for part in message["content"] if part["type"] == "image"]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        sample = dict(processor(text=[text], images=pictures or None, return_tensors="pt"))
        ids = sample["input_ids"][0].tolist()
        start = next(i for i in range(len(ids)) if ids[i:i + len(head)] == head) + len(head)
        stop = ids.index(end, start) + 1
        labels = torch.full_like(sample["input_ids"], -100)
        labels[0, start:stop] = sample["input_ids"][0, start:stop]
        sample["labels"] = labels
        made.append({name: value.to(args.device) if torch.is_tensor(value) else value for name, value in sample.items()})
    return made


def train(args):
    started = time.perf_counter()
    from peft import PeftModel, prepare_model_for_kbit_training

    if args.threads:
        torch.set_num_threads(args.threads)
    records = samples(args)
    model, dtype = load_model(args)
    checkpointing = {"use_reentrant": False}
    if args.base == "nf4":
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=args.checkpointing, gradient_checkpointing_kwargs=checkpointing)
        # It makes everything that is not in four bits f32; ours is as the file has it, and theirs may be too.
        for parameter in model.parameters():
            if parameter.dtype == torch.float32:
                parameter.data = parameter.data.to(dtype)
    elif args.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=checkpointing)
    model = PeftModel.from_pretrained(model, args.adapter, is_trainable=True)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained and all(parameter.dtype == torch.float32 for parameter in trained), "adapters are in f32"
    optimizer = torch.optim.AdamW(trained, lr=args.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    kind = args.device.split(":")[0]
    loaded = time.perf_counter() - started
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()

    lines, first = [], None
    for step in range(args.steps):
        start = time.perf_counter()
        sample = records[step % len(records)]
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(**sample).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        synchronize(args.device)
        first = first or time.perf_counter() - started
        lines.append({"loss": value, "grad_norm": norm.item(), "seconds": time.perf_counter() - start,
                      "tokens": sample["input_ids"].numel(), "supervised": int((sample["labels"] != -100).sum())})
    if kind == "cuda":
        peak = torch.cuda.max_memory_reserved()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"loaded_after_seconds": loaded, "first_step_seconds": first, "peak_bytes": peak, "steps": lines,
            "torch": torch.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "rate"])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--adapter")
    parser.add_argument("--base", choices=["f32", "bf16", "nf4"], default="bf16")
    parser.add_argument("--compute", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--max-pixels", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--no-checkpointing", dest="checkpointing", action="store_false")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(rate(args.device) if args.what == "rate" else train(args)))


if __name__ == "__main__":
    main()
