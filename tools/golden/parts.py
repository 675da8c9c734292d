"""The models of the repository, opened with diffusers and transformers: text, autoencoder, transformer with a LoRA, scorer."""

import contextlib
import math
import os
import re

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

CLIP_TOKENS = 77
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Pipeline:
    """A FLUX pipeline folder in float32. dtype bf16 rounds every matrix and kernel once."""

    def __init__(self, folder, dtype="auto"):
        at = lambda name: os.path.join(folder, name)
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(at("scheduler"))
        self.clip_words = CLIPTokenizer.from_pretrained(at("tokenizer"))
        self.t5_words = T5TokenizerFast.from_pretrained(at("tokenizer_2"))
        self.clip = CLIPTextModel.from_pretrained(at("text_encoder"), dtype=torch.float32).eval()
        self.t5 = T5EncoderModel.from_pretrained(at("text_encoder_2"), dtype=torch.float32).eval()
        self.vae = AutoencoderKL.from_pretrained(at("vae"), torch_dtype=torch.float32).eval()
        self.transformer = FluxTransformer2DModel.from_pretrained(at("transformer"), torch_dtype=torch.float32).eval()
        for part in (self.clip, self.t5, self.vae, self.transformer):
            part.requires_grad_(False)
            for p in part.parameters():
                if dtype == "bf16" and p.ndim > 1:
                    p.data = p.data.bfloat16().float()
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.known = {}

    @torch.no_grad()
    def encode(self, prompts, tokens):
        """-> T5 states [B, T, J], CLIP's pooled states [B, P]. Each prompt goes through by itself."""
        for p in prompts:
            if (p, tokens) in self.known:
                continue
            pad = dict(padding="max_length", truncation=True, return_tensors="pt")
            short = self.clip_words(p, max_length=CLIP_TOKENS, **pad).input_ids
            long = self.t5_words(p, max_length=tokens, **pad).input_ids
            self.known[p, tokens] = self.t5(long).last_hidden_state[0], self.clip(short).pooler_output[0]
        rows = [self.known[p, tokens] for p in prompts]
        return torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows])

    @torch.no_grad()
    def latents(self, picture, noise):
        """A draw from the encoder's distribution. picture: [S, S, 3] bytes, noise: standard normal [Z, h, w] -> packed [N, 4Z]."""
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        d = self.vae.encode(x).latent_dist
        z = (d.mean + d.std * noise - self.vae.config.shift_factor) * self.vae.config.scaling_factor
        return pack(z)[0]

    def latent_shape(self, side):
        return self.vae.config.latent_channels, side // self.factor, side // self.factor

    @torch.no_grad()
    def decode(self, packed, side):
        """Packed latents [B, N, 4Z] -> pictures [B, 3, S, S] in 0…1."""
        z = unpack(packed, side // self.factor)
        x = self.vae.decode(z / self.vae.config.scaling_factor + self.vae.config.shift_factor).sample
        return (x / 2 + 0.5).clamp(0, 1)

    def velocity(self, x, timestep, text, guidance, adapter):
        """x [B, N, C]; timestep float32 [B] in 0…1000; adapter may be None."""
        states, pooled = text
        side = math.isqrt(x.shape[1])
        ids = torch.zeros(side, side, 3)
        ids[..., 1], ids[..., 2] = torch.arange(side)[:, None], torch.arange(side)[None]
        with adapter.on(self.transformer) if adapter else contextlib.nullcontext():
            return self.transformer(
                hidden_states=x, encoder_hidden_states=states, pooled_projections=pooled, timestep=timestep / 1000,
                img_ids=ids.view(-1, 3), txt_ids=torch.zeros(states.shape[1], 3),
                guidance=torch.full((len(x),), guidance), return_dict=False)[0]

    def training_grid(self):
        """The noise levels of a freshly loaded scheduler, most noise first."""
        return self.scheduler.sigmas[:self.scheduler.config.num_train_timesteps].clone()

    def mu(self, tokens):
        """The dynamic shift of a picture of so many packed tokens: linear in them."""
        c = self.scheduler.config
        slope = (c.max_shift - c.base_shift) / (c.max_image_seq_len - c.base_image_seq_len)
        return tokens * slope + c.base_shift - slope * c.base_image_seq_len

    def schedule(self, steps, tokens):
        """What FluxPipeline asks for: n+1 noise levels and n timesteps of a picture of so many packed tokens."""
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=self.mu(tokens))
        return scheduler.sigmas.clone(), scheduler.timesteps.clone()


def pack(z):
    """[B, Z, h, w] -> [B, (h/2)(w/2), 4Z], FLUX's order."""
    b, c, h, w = z.shape
    return z.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def unpack(x, side):
    b, _, c = x.shape
    return x.view(b, side // 2, side // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, side, side)


class Adapter:
    """LoRA by the book: y = W·x + scale · B·(A·x) on every linear layer that the config names. Scale is alpha/rank, or
    alpha/√rank with rslora; patterns are PEFT's."""

    def __init__(self, transformer, lora, fill):
        self.scales, self.weights = {}, {}
        for name, module in transformer.named_modules():
            if isinstance(module, torch.nn.Linear) and adapted(name, lora):
                rank = int(pattern(name, lora.get("rank_pattern"), lora["rank"]))
                alpha = float(pattern(name, lora.get("alpha_pattern"), lora["alpha"]))
                self.scales[name] = alpha / (math.sqrt(rank) if lora.get("rslora") else rank)
                a, b = fill(name, rank, module.in_features), torch.zeros(module.out_features, rank)
                self.weights[name] = [torch.nn.Parameter(a), torch.nn.Parameter(b)]

    def parameters(self):
        return [p for pair in self.weights.values() for p in pair]

    def copy(self):
        twin = object.__new__(Adapter)
        twin.scales = self.scales
        twin.weights = {n: [torch.nn.Parameter(p.detach().clone()) for p in pair] for n, pair in self.weights.items()}
        return twin

    @contextlib.contextmanager
    def on(self, transformer):
        def add(scale, a, b):
            return lambda module, args, y: y + scale * F.linear(F.linear(args[0], a), b)
        hooks = [transformer.get_submodule(n).register_forward_hook(add(self.scales[n], a, b)) for n, (a, b) in self.weights.items()]
        try:
            yield
        finally:
            for h in hooks:
                h.remove()


def adapted(name, lora):
    """Targeted, not excluded, and in one of the blocks where some are given."""
    named = lambda list: any(name == t or name.endswith("." + t) for t in list)
    return named(lora["targets"]) and not named(lora.get("exclude", [])) and (
        not lora.get("blocks") or any(inside(name, b) for b in lora["blocks"]))


def inside(name, block):
    """block: kind.NUMBER or kind.FIRST-LAST, both ends included."""
    kind, numbers = block.split(".")
    first, _, last = numbers.partition("-")
    found = re.match(rf"{kind}\.(\d+)\.", name)
    return bool(found) and int(first) <= int(found[1]) <= int(last or first)


def pattern(name, patterns, default):
    """The value of the first PATTERN=VALUE whose pattern matches the name, or what follows a dot of it, to its end."""
    for p in patterns or []:
        key, _, value = p.rpartition("=")
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


class Scorer:
    """SciScore: exp(logit_scale)·cos(picture, prompt). Pictures are rounded to 8 bits first, as if saved."""

    def __init__(self, folder):
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.words = CLIPTokenizer.from_pretrained(folder)
        self.side = self.model.config.vision_config.image_size

    @torch.no_grad()
    def score(self, prompts, pictures):
        """pictures [B, 3, S, S] in 0…1, one prompt each -> [B]"""
        scores = []
        for prompt, picture in zip(prompts, pictures):
            ids = self.words(prompt, return_tensors="pt", truncation=True, max_length=CLIP_TOKENS).input_ids
            out = self.model(input_ids=ids, pixel_values=self.pixels(picture)[None])
            scores.append(out.logits_per_image[0, 0].item())
        return scores

    def pixels(self, picture):
        """Resized to the tower's side (bicubic), 0…1, normalised. The pictures are square, so there is nothing to crop."""
        small = Image.fromarray(to_bytes(picture)).resize((self.side, self.side), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255
        return (x - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]


def to_bytes(picture):
    """[3, H, W] in 0…1 -> [H, W, 3] bytes, rounded."""
    return (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
