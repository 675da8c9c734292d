"""One measurement of PyTorch + diffusers + peft, in a process of its own so that its peak memory is its own.

    python peer.py step  --model DIR --batch 16 --image-tokens 16 --text-tokens 16 --rank 16 --steps 20 --dtype float32 [--checkpointing]
    python peer.py score --model DIR --images 256 --batch 64 --steps 5

Prints one JSON object: step_seconds (median), min_seconds, peak_rss_bytes; or images_per_second, peak_rss_bytes.
"""

import argparse
import json
import pathlib
import resource
import statistics
import time

import torch


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(step, steps):
    step()  # the first call pays for allocation
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def step(a):
    from diffusers import FluxTransformer2DModel
    from peft import LoraConfig

    dtype = getattr(torch, a.dtype)
    model = FluxTransformer2DModel.from_pretrained(a.model, torch_dtype=dtype)
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=a.rank, lora_alpha=a.rank, init_lora_weights="gaussian", target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    lora = [p for p in model.parameters() if p.requires_grad]
    for p in lora:
        p.data = p.data.float() if dtype == torch.float32 else p.data
    if a.checkpointing:
        model.enable_gradient_checkpointing()
    model.train()
    optimizer = torch.optim.AdamW(lora, lr=1e-4)
    c = model.config
    side = int(a.image_tokens ** 0.5)
    ids = torch.tensor([[0, i // side, i % side] for i in range(a.image_tokens)], dtype=torch.float32)
    x, target = (torch.randn(a.batch, a.image_tokens, c.in_channels, dtype=dtype) for _ in range(2))
    text = torch.randn(a.batch, a.text_tokens, c.joint_attention_dim, dtype=dtype)
    pooled = torch.randn(a.batch, c.pooled_projection_dim, dtype=dtype)
    t = torch.full((a.batch,), 0.5, dtype=dtype)
    guidance = torch.full((a.batch,), 1.0, dtype=dtype) if c.guidance_embeds else None

    def one():
        v = model(hidden_states=x, timestep=t, guidance=guidance, pooled_projections=pooled, encoder_hidden_states=text,
                  txt_ids=torch.zeros(a.text_tokens, 3), img_ids=ids, return_dict=False)[0]
        ((v.float() - target.float()) ** 2).mean().backward()
        torch.nn.utils.clip_grad_norm_(lora, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    times = timed(one, a.steps)
    return {"step_seconds": statistics.median(times), "min_seconds": min(times), "peak_rss_bytes": peak()}


def score(a):
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(a.model).eval()
    processor = CLIPProcessor.from_pretrained(a.model)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (a.images, 64, 64, 3), generator=generator, dtype=torch.uint8).numpy()
    images = [Image.fromarray(p) for p in pixels]

    @torch.no_grad()
    def one():
        for k in range(0, a.images, a.batch):
            inputs = processor(text=["a picture of an apple"], images=images[k:k + a.batch], return_tensors="pt", padding=True)
            i = model.get_image_features(pixel_values=inputs["pixel_values"])
            t = model.get_text_features(input_ids=inputs["input_ids"])
            (model.logit_scale.exp() * torch.nn.functional.normalize(i, dim=-1) @ torch.nn.functional.normalize(t, dim=-1).T).tolist()

    times = timed(one, a.steps)
    return {"images_per_second": a.images / statistics.median(times), "peak_rss_bytes": peak()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["step", "score"])
    p.add_argument("--model", type=pathlib.Path, required=True)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--image-tokens", type=int, default=16)
    p.add_argument("--text-tokens", type=int, default=16)
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--images", type=int, default=256)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--dtype", default="float32")
    p.add_argument("--checkpointing", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    print(json.dumps({"step": step, "score": score}[a.what](a)))


if __name__ == "__main__":
    main()
