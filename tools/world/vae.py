"""Trains the AutoencoderKL on drawn pictures.

From scratch a VAE this small stays blurred for long. So it is first taught: the encoder regresses the 16 principal
components of every 8x8 block, the decoder inverts them, each by itself. After that both are trained together on
L1 + squared error + the error of horizontal and vertical differences (which keeps edges clean) and a little KL."""
import math
import time

import numpy as np
import torch
from torch.nn import functional as F

import nets

LR = 2e-3


class Components(torch.nn.Module):
    """16 principal components of 8x8 blocks, partly whitened to unit mean variance."""

    def __init__(self, x):
        super().__init__()
        p = F.pixel_unshuffle(x, nets.FACTOR).permute(0, 2, 3, 1).reshape(-1, 3 * nets.FACTOR ** 2)
        self.mean = p.mean(0)
        _, v = torch.linalg.eigh(torch.cov((p - self.mean).T))
        self.v = v.flip(1)[:, :16].contiguous()
        c = (p - self.mean) @ self.v
        s = c.std(0) ** 0.6
        self.scale = s * (c / s).std()

    def forward(self, x):
        p = F.pixel_unshuffle(x, nets.FACTOR).permute(0, 2, 3, 1)
        return (((p - self.mean) @ self.v) / self.scale).permute(0, 3, 1, 2)


def error(a, b):
    d = a - b
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return d.abs().mean() + d.pow(2).mean() + 0.5 * edges


@torch.no_grad()
def psnr(model, x):
    y = torch.cat([model.decode(model.encode(x[i:i + 64]).latent_dist.mean).sample for i in range(0, len(x), 64)])
    return -10 * math.log10((y.clamp(-1, 1) - x).pow(2).mean().item() / 4)


def train(pictures, held, steps, batch=8, taught=0.4, log=print):
    """pictures uint8 [N,64,64,3] to learn from, held to report on. Returns the model with scaling_factor and shift_factor set."""
    torch.manual_seed(0)
    model, held = nets.vae(), nets.to_float(held)
    with torch.no_grad():  # a quiet posterior at the start
        model.encoder.conv_out.bias[16:] = -5
        model.encoder.conv_out.weight[16:] *= 0.1
    teacher = Components(nets.to_float(pictures[:2000]))
    opt = torch.optim.AdamW(model.parameters(), LR, betas=(0.9, 0.99), weight_decay=1e-4)
    rng, start = np.random.default_rng(0), time.time()
    for step in range(steps):
        f = step / steps
        for g in opt.param_groups:
            g["lr"] = LR * min(1, (step + 1) / 20) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * f)))
        x = nets.to_float(pictures[rng.integers(0, len(pictures), batch)])
        q = model.encode(x).latent_dist
        if f < taught:
            z = teacher(x)
            loss = (q.mean - z).abs().mean() + (q.mean - z).pow(2).mean() + error(model.decode(z + 0.05 * torch.randn_like(z)).sample, x)
        else:
            loss = error(model.decode(q.sample()).sample, x) + 2e-4 * q.kl().mean() / q.mean[0].numel()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 200 == 0 or step + 1 == steps:
            log(f"vae {step} {time.time() - start:.0f} s, loss {loss.item():.4f}, held-out PSNR {psnr(model, held[:64]):.2f} dB")
    with torch.no_grad():
        z = model.encode(nets.to_float(pictures[:512])).latent_dist.sample()
    model.register_to_config(scaling_factor=round(1 / z.std().item(), 4), shift_factor=round(z.mean().item(), 4))
    log(f"vae done, PSNR {psnr(model, held):.2f} dB on {len(held)} held-out pictures, latent mean {z.mean():.3f} std {z.std():.3f}")
    return model.eval().requires_grad_(False)
