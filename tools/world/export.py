"""Writes the trained parts as Hugging Face folders: OUT/world (a FluxPipeline) and OUT/world-sciscore (a CLIPModel)."""
import json
import os
import shutil

from transformers import CLIPImageProcessor, CLIPTokenizerFast

import nets

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PARTS = {
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"], "transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}


def without_path(config):
    """Drops where a part was loaded from."""
    if os.path.exists(config):
        with open(config) as f:
            kept = {k: v for k, v in json.load(f).items() if k != "_name_or_path"}
        with open(config, "w") as f:
            json.dump(kept, f, indent=2)


def pipeline(pipe, tokenizers, folder):
    """pipe: nets.Pipeline; tokenizers: the folder with tokenizer and tokenizer_2."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(os.path.join(tokenizers, name), os.path.join(folder, name))
    parts = {"scheduler": nets.scheduler(), "text_encoder": pipe.clip, "text_encoder_2": pipe.t5, "transformer": pipe.transformer, "vae": pipe.vae}
    for name, part in parts.items():
        part.save_pretrained(os.path.join(folder, name))
        without_path(os.path.join(folder, name, "config.json"))
    with open(os.path.join(folder, "model_index.json"), "w") as f:
        json.dump({"_class_name": "FluxPipeline", "_diffusers_version": "0.31.0", **PARTS}, f, indent=2)


def sciscore(model, tokenizers, folder):
    """The scorer with the files AutoProcessor wants: tokenizer (both forms) and preprocessor_config.json."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    raw = os.path.join(tokenizers, "tokenizer")
    CLIPTokenizerFast.from_pretrained(raw).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": nets.SIDE}, crop_size={"height": nets.SIDE, "width": nets.SIDE}, image_mean=MEAN, image_std=STD).save_pretrained(folder)
    with open(os.path.join(folder, "preprocessor_config.json")) as f:
        config = json.load(f)
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as f:
        json.dump({**config, "processor_class": "CLIPProcessor"}, f, indent=2)
