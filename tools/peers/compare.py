"""sciflux beside PyTorch on this machine, in one run: every measurement is a process of its own, the two sides take turns,
and only ratios are meant to travel.

    python compare.py --sciflux ../../bin/sciflux [--world DIR] [--only tiny,width,score] [--rounds 3]

Cases: a LoRA step of the tiny world transformer, tiny SciScore scoring, and a LoRA step at FLUX.1's width (3072, 24 heads of 128, 1 double and
2 single blocks, 1024 + 512 tokens, rank 16, batch 1) with and without recomputation. Needs torch, diffusers, transformers, peft.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr[-2000:]}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def peer(what, **options):
    flags = []
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        flags += [flag] if value is True else [] if value is False else [flag, value]
    return run([sys.executable, HERE / "peer.py", what, *flags])


def wide_model(folder):
    """A random model of FLUX.1's width, stored in bf16 as the published weights are."""
    import torch
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    model = FluxTransformer2DModel(num_layers=1, num_single_layers=2, guidance_embeds=True).to(torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def best(measure, rounds, key="step_seconds", smaller=True):
    values = [measure() for _ in range(rounds)]
    return (min if smaller else max)(values, key=lambda v: v[key])


def row(name, ours, theirs, key, smaller=True):
    speed = theirs[key] / ours[key] if smaller else ours[key] / theirs[key]
    memory = ours["peak_rss_bytes"] / theirs["peak_rss_bytes"]
    print(f"{name:34} sciflux {ours[key]:9.4f}  peer {theirs[key]:9.4f}  speed {speed:5.2f}x  memory {memory:5.2f}x "
          f"({ours['peak_rss_bytes'] / 2**30:.2f} / {theirs['peak_rss_bytes'] / 2**30:.2f} GiB)", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sciflux", type=pathlib.Path, required=True)
    p.add_argument("--world", type=pathlib.Path, default=HERE.parent.parent / "models")
    p.add_argument("--only", default="tiny,score,width")
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    only = a.only.split(",")

    def ours(*flags):
        return run([a.sciflux, "bench", *flags, "--json"])

    if "tiny" in only:
        shape = dict(batch=16, image_tokens=16, text_tokens=16, rank=16, steps=40)
        flags = [f for k, v in shape.items() for f in ("--" + k.replace("_", "-"), v)]
        model = a.world / "world" / "transformer"
        mine = best(lambda: ours("step", "--model", model, *flags), a.rounds)
        row("tiny LoRA step, float32", mine, best(lambda: peer("step", model=model, **shape), a.rounds), "step_seconds")
        row("tiny LoRA step, peer in bfloat16", mine, best(lambda: peer("step", model=model, dtype="bfloat16", **shape), 1), "step_seconds")
    if "score" in only:
        model = a.world / "world-sciscore"
        mine = best(lambda: ours("score", "--model", model), a.rounds, "images_per_second", False)
        row("tiny SciScore, pictures a second", mine, best(lambda: peer("score", model=model, batch=64), a.rounds, "images_per_second", False),
            "images_per_second", False)
    if "width" in only:
        with tempfile.TemporaryDirectory() as folder:
            model = wide_model(pathlib.Path(folder) / "transformer")
            shape = dict(batch=1, image_tokens=1024, text_tokens=512, rank=16, steps=2)
            flags = [f for k, v in shape.items() for f in ("--" + k.replace("_", "-"), v)]
            for memory, checkpointing in (("none", False), ("full", True)):
                mine = best(lambda: ours("step", "--model", model, "--memory", memory, *flags), 1)
                row(f"FLUX width, memory {memory}", mine, best(lambda: peer("step", model=model, checkpointing=checkpointing, **shape), 1), "step_seconds")


if __name__ == "__main__":
    main()
