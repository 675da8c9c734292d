"""Pre-trains transformer and both text encoders so that the pipeline behaves as FLUX does in the paper: it draws what an
explicit or superficial prompt says, and draws an implicit prompt mostly superficially.

That comes from the captions alone. A right picture is called by an explicit prompt, or with probability LEAK by an implicit
one; a superficial picture by a superficial or an implicit prompt, half each. So LEAK / (LEAK + 0.5) = 23 % of all implicit
captions stand on a right picture."""
import math
import time

import torch

import nets

LEAK, LR, BATCH, WARM_UP = 0.15, 1.5e-3, 32, 100


def draw(options, generator):
    return options[int(torch.randint(len(options), (), generator=generator))]


def caption(row, right, generator):
    u = torch.rand((), generator=generator).item()
    if right:
        return draw(row["ip"] if u < LEAK else row["ep"], generator)
    return draw(row["ip"] if u < 0.5 else row["sp"], generator)


def rate(step, total, peak, flat):
    """Warm-up, constant for the share flat of the steps, then a half cosine to zero."""
    f = max(0.0, (step / total - flat) / (1 - flat))
    return peak * min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * f))


def loss_of(pipe, z, prompts, generator):
    """Rectified-flow loss; sigma of a batch is uniform or logit-normal, each half of the time."""
    b = len(z)
    s = torch.rand(b, generator=generator) if torch.rand((), generator=generator) < 0.5 else torch.sigmoid(torch.randn(b, generator=generator))
    e, w = torch.randn(z.shape, generator=generator), s.view(-1, 1, 1)
    v = pipe.velocity((1 - w) * z + w * e, s, pipe.encode_text(prompts))
    return (v - (e - z)).pow(2).mean()


def train(pipe, rows, latents, steps, total, state=None, log=print, peak=LR, flat=0.5, seed=0):
    """latents[right] is [N,16,64] for right in (0, 1), rows give the captions. Runs steps (a range of 0..total); state is the
    optimiser's from an earlier range; seed is added to the step for its random numbers. Returns the optimiser's state."""
    params = pipe.trained()
    opt = torch.optim.AdamW(params, peak, betas=(0.9, 0.98), weight_decay=0.01)
    if state:
        opt.load_state_dict(state)
    mean, start = None, time.time()
    for step in steps:
        generator = torch.Generator().manual_seed(seed + step)
        for g in opt.param_groups:
            g["lr"] = rate(step, total, peak, flat)
        index = torch.randint(len(rows), (BATCH,), generator=generator)
        right = torch.randint(2, (BATCH,), generator=generator)
        z = torch.stack([latents[r][i] for i, r in zip(index.tolist(), right.tolist())])
        prompts = [caption(rows[i], r, generator) for i, r in zip(index.tolist(), right.tolist())]
        loss = loss_of(pipe, z, prompts, generator)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 200 == 0 or step == steps[-1]:
            log(f"base {step} {time.time() - start:.0f} s, loss {mean:.4f}")
    return opt.state_dict()
