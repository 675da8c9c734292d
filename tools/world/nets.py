"""Small members of the FLUX family: the library's own classes, names and file formats, only the sizes differ."""
import math

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from tokens import TEXT_LENGTH

SIDE, FACTOR = 64, 8          # picture side, pixels a latent
LATENT = SIDE // FACTOR
IMAGE_TOKENS = (LATENT // 2) ** 2
STEPS = 10                    # Euler steps of an evaluation picture


def vae():
    return AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96), layers_per_block=1, latent_channels=16, norm_num_groups=4, sample_size=SIDE,
        use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.0, shift_factor=0.0)


def transformer():
    return FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=2, num_single_layers=4, attention_head_dim=32, num_attention_heads=4,
        joint_attention_dim=128, pooled_projection_dim=96, guidance_embeds=True, axes_dims_rope=(8, 12, 12))


def t5(vocabulary):
    return T5EncoderModel(T5Config(
        vocab_size=vocabulary, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
        dropout_rate=0.0, tie_word_embeddings=False, is_encoder_decoder=False, use_cache=False))


def clip_text(vocabulary):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=0, pad_token_id=1, eos_token_id=2, projection_dim=96))


def sciscore(vocabulary):
    text = dict(vocab_size=vocabulary, hidden_size=96, intermediate_size=288, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=77, hidden_act="gelu", bos_token_id=0, pad_token_id=1, eos_token_id=2)
    vision = dict(hidden_size=96, intermediate_size=288, num_hidden_layers=4, num_attention_heads=4, image_size=SIDE, patch_size=8, hidden_act="gelu")
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def scheduler():
    """Dynamic shifting as FLUX.1 dev; the sequence lengths are dev's, so 16 image tokens give mu = 0.459."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096)


def count(module):
    return sum(p.numel() for p in module.parameters())


def pack(z):
    """[B,16,h,w] -> [B,(h/2)(w/2),64], FLUX's order."""
    b, c, h, w = z.shape
    return z.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def unpack(x, h=LATENT, w=LATENT):
    b, _, c = x.shape
    return x.view(b, h // 2, w // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, h, w)


def to_float(pictures):
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(x):
    return ((x / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


class Pipeline(torch.nn.Module):
    """The parts of a FLUX pipeline in training form, with both tokenizers."""

    def __init__(self, clip_tokenizer, t5_tokenizer, autoencoder):
        super().__init__()
        self.clip_tokenizer, self.t5_tokenizer, self.vae = clip_tokenizer, t5_tokenizer, autoencoder
        self.t5, self.clip, self.transformer = t5(len(t5_tokenizer)), clip_text(len(clip_tokenizer)), transformer()
        ids = torch.zeros(LATENT // 2, LATENT // 2, 3)
        ids[..., 1], ids[..., 2] = torch.arange(LATENT // 2)[:, None], torch.arange(LATENT // 2)[None]
        self.image_ids, self.text_ids = ids.view(-1, 3), torch.zeros(TEXT_LENGTH, 3)
        self.known = {}

    def trained(self):
        return [p for m in (self.transformer, self.t5, self.clip) for p in m.parameters()]

    def ids(self, prompt):
        """Token ids of both encoders. CLIP is causal and pooled at the end token, so 24 ids pool to the same vector as 77."""
        if prompt not in self.known:
            self.known[prompt] = (
                self.clip_tokenizer(prompt, padding="max_length", max_length=24, truncation=True).input_ids,
                self.t5_tokenizer(prompt, padding="max_length", max_length=TEXT_LENGTH, truncation=True).input_ids)
        return self.known[prompt]

    def encode_text(self, prompts):
        """-> T5 states [B,T,128], pooled CLIP vector [B,96]"""
        a, b = zip(*(self.ids(p) for p in prompts))
        return self.t5(torch.tensor(b)).last_hidden_state, self.clip(torch.tensor(a)).pooler_output

    @torch.no_grad()
    def encode_pictures(self, pictures, generator, batch=100):
        """Posterior samples as packed, scaled latents [B,16,64]."""
        c, out = self.vae.config, []
        for i in range(0, len(pictures), batch):
            z = self.vae.encode(to_float(pictures[i:i + batch])).latent_dist.sample(generator)
            out.append(pack((z - c.shift_factor) * c.scaling_factor))
        return torch.cat(out)

    @torch.no_grad()
    def decode(self, x):
        c = self.vae.config
        return self.vae.decode(unpack(x) / c.scaling_factor + c.shift_factor).sample

    def velocity(self, x, sigma, text):
        states, pooled = text
        return self.transformer(x, states, pooled, sigma, self.image_ids, self.text_ids, torch.zeros(len(x)), return_dict=False)[0]

    @torch.no_grad()
    def sample(self, prompts, generator, steps=STEPS, batch=64):
        """Euler sampling with guidance 0; uint8 pictures."""
        out, s = [], sigmas(steps)
        for i in range(0, len(prompts), batch):
            text = self.encode_text(prompts[i:i + batch])
            x = torch.randn(len(text[0]), IMAGE_TOKENS, 64, generator=generator)
            for k in range(steps):
                x = x + (s[k + 1] - s[k]) * self.velocity(x, s[k].expand(len(x)), text)
            out.append(to_bytes(self.decode(x)))
        return np.concatenate(out)


def sigmas(n):
    """The schedule FluxPipeline asks for at n steps, with the final 0."""
    c = scheduler().config
    u = torch.linspace(1, 1 / n, n, dtype=torch.float64)
    slope = (c.max_shift - c.base_shift) / (c.max_image_seq_len - c.base_image_seq_len)
    shift = math.exp(c.base_shift + slope * (IMAGE_TOKENS - c.base_image_seq_len))
    s = shift / (shift + (1 / u - 1))
    return torch.cat([s, torch.zeros(1, dtype=torch.float64)]).float()
