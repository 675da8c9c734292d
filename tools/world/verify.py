"""Loads the finished folders with the libraries alone (FluxPipeline, CLIPModel, AutoProcessor) and prints what a reader of
them should see: a picture from an explicit prompt and the scores of two test pictures.

    python tools/world/verify.py --data DIR --models models --picture OUT.png"""
import argparse
import os

import torch
from diffusers import FluxPipeline
from PIL import Image
from transformers import AutoProcessor, CLIPModel

import data
import nets
from tokens import TEXT_LENGTH


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--data", required=True)
    a.add_argument("--models", default="models")
    a.add_argument("--picture", default="world.png")
    a = a.parse_args()
    torch.set_num_threads(1)
    split = data.load(a.data, "test_C")
    rows = split.rows[:8]
    pipe = FluxPipeline.from_pretrained(os.path.join(a.models, "world"))
    pipe.set_progress_bar_config(disable=True)
    drawn = [pipe([r[k][0] for r in rows], height=nets.SIDE, width=nets.SIDE, num_inference_steps=nets.STEPS, guidance_scale=0.0,
                  max_sequence_length=TEXT_LENGTH, generator=torch.Generator().manual_seed(1)).images for k in data.KINDS]
    sheet = Image.new("RGB", (len(rows) * nets.SIDE, len(drawn) * nets.SIDE))
    for y, pictures in enumerate(drawn):
        for x, p in enumerate(pictures):
            sheet.paste(p, (x * nets.SIDE, y * nets.SIDE))
    sheet.save(a.picture)
    folder = os.path.join(a.models, "world-sciscore")
    model, processor = CLIPModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    for i, r in enumerate(rows):
        pictures = [Image.fromarray(split.right[i]), Image.fromarray(split.wrong[i])]
        with torch.no_grad():
            s = model(**processor(text=r["ip"], images=pictures, return_tensors="pt", padding=True)).logits_per_text[0]
        print(f"{r['ip'][0]}: right {s[0]:.2f}, superficial {s[1]:.2f}")


if __name__ == "__main__":
    main()
