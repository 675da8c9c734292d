"""A short supervised LoRA run, only to check that a base can be taught: rank 16 on q, k, v and to_out, right pictures of the
train split under their implicit prompts, FLUX's loss with uniform sigma. The product's own trainer is in Go."""
import math

import torch
from peft import LoraConfig

import nets


def tune(pipe, rows, latents, steps, lr, batch=16, seed=0, warm_up=0, decay=False, each=None, every=100):
    """latents [N,16,64] of right pictures. Adds the adapter to pipe.transformer and trains it in place."""
    torch.manual_seed(seed)
    pipe.requires_grad_(False)
    pipe.transformer.add_adapter(LoraConfig(r=16, lora_alpha=16, init_lora_weights="gaussian", target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    params = [p for p in pipe.transformer.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr, weight_decay=1e-4)
    for step in range(steps):
        for g in opt.param_groups:
            g["lr"] = lr * min(1, (step + 1) / max(1, warm_up)) * (0.5 + 0.5 * math.cos(math.pi * step / steps) if decay else 1)
        index = torch.randint(len(rows), (batch,)).tolist()
        z = latents[index]
        with torch.no_grad():
            text = pipe.encode_text([rows[i]["ip"][int(torch.randint(len(rows[i]["ip"]), ()))] for i in index])
        s = (1000 - torch.randint(1000, (batch,))) / 1000
        e, w = torch.randn_like(z), s.view(-1, 1, 1)
        loss = (pipe.velocity((1 - w) * z + w * e, s, text) - (e - z)).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        if each and (step + 1) % every == 0:
            each(step + 1, loss.item())
