"""Trains the tiny SciScore: a CLIP model by the contrastive loss on explicit and superficial captions, then the paper's loss

    L = CE_text(c; I+, I-) + lambda (CE_image(I+; p, n) + CE_image(I-; n, p)),  lambda = 0.25

with implicit caption c, explicit p, superficial n, on drawn pictures and on pictures that the base generated from p and n."""
import math
import time

import numpy as np
import torch
from torch.nn import functional as F

import export
import nets

LAMBDA, TEXT = 0.25, 24
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in (export.MEAN, export.STD))


class Scorer:
    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.known = model, tokenizer, {}

    def ids(self, prompt):
        if prompt not in self.known:
            self.known[prompt] = self.tokenizer(prompt, padding="max_length", max_length=TEXT, truncation=True).input_ids
        return self.known[prompt]

    def text(self, prompts):
        return F.normalize(self.model.get_text_features(torch.tensor([self.ids(p) for p in prompts])), dim=-1)

    def image(self, x):
        """x in -1..1"""
        return F.normalize(self.model.get_image_features(((x + 1) / 2 - MEAN) / STD), dim=-1)

    def scale(self):
        return self.model.logit_scale.exp()

    @torch.no_grad()
    def scores(self, prompts, pictures, batch=128):
        out = [(self.text(prompts[i:i + batch]) * self.image(nets.to_float(pictures[i:i + batch]))).sum(-1) for i in range(0, len(prompts), batch)]
        return (self.scale() * torch.cat(out)).numpy()


def disturbed(pictures, generator):
    """Shift, blur, gain and noise, so that the scorer looks at what is drawn and not at single pixels."""
    x = nets.to_float(pictures)
    b, _, side, _ = x.shape
    wide = F.pad(x, (3,) * 4, mode="replicate")
    at = torch.randint(7, (b, 2), generator=generator).tolist()
    x = torch.stack([w[:, i:i + side, j:j + side] for w, (i, j) in zip(wide, at)])
    pick = lambda p: (torch.rand(b, 1, 1, 1, generator=generator) < p).float()
    soft = F.avg_pool2d(F.pad(x, (1,) * 4, mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, pick(0.4))
    x = x * (1 + 0.08 * torch.randn(b, 3, 1, 1, generator=generator)) + 0.05 * torch.randn(b, 3, 1, 1, generator=generator)
    level = torch.rand(b, 1, 1, 1, generator=generator) * 0.2 * pick(0.7)
    return x + level * torch.randn(x.shape, generator=generator)


def contrast(scorer, images, texts):
    """CLIP's loss; captions that stand twice in the batch are positives of each other's pictures."""
    a, b = scorer.image(images), scorer.text(texts)
    logits = scorer.scale() * a @ b.T
    same = torch.tensor([[s == t for t in texts] for s in texts]).float()
    both = lambda l, t: -(t / t.sum(1, keepdim=True) * F.log_softmax(l, 1)).sum(1).mean()
    return (both(logits, same) + both(logits.T, same.T)) / 2


def paper(scorer, good, bad, implicit, explicit, superficial):
    g, b = scorer.image(good), scorer.image(bad)
    c, p, n = (scorer.text(t) for t in (implicit, explicit, superficial))
    s = lambda t, i: scorer.scale() * (t * i).sum(-1)
    two = lambda won, lost: F.softplus(lost - won).mean()
    return two(s(c, g), s(c, b)) + LAMBDA * (two(s(p, g), s(n, g)) + two(s(n, b), s(p, b)))


def chosen(rows, kind, generator):
    return [r[kind][int(torch.randint(len(r[kind]), (), generator=generator))] for r in rows]


def fit(scorer, loss_of, steps, lr, name, log):
    """AdamW with a cosine; loss_of(generator) draws a batch."""
    params = list(scorer.model.parameters())
    opt = torch.optim.AdamW(params, lr, betas=(0.9, 0.98), weight_decay=0.05)
    start, mean = time.time(), None
    scorer.model.train()
    for step in range(steps):
        for g in opt.param_groups:
            g["lr"] = lr * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        loss = loss_of(torch.Generator().manual_seed(step))
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        with torch.no_grad():
            scorer.model.logit_scale.clamp_(max=math.log(100))
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 200 == 0 or step + 1 == steps:
            log(f"{name} {step} {time.time() - start:.0f} s, loss {mean:.4f}, scale {scorer.scale().item():.1f}")
    scorer.model.eval()


def clip_batch(scorer, split, size=32):
    """Right and superficial picture of size rows, each with its own caption."""
    def loss(generator):
        index = torch.randint(len(split), (size,), generator=generator).tolist()
        rows = [split.rows[i] for i in index]
        pictures = np.concatenate([split.right[index], split.wrong[index]])
        return contrast(scorer, disturbed(pictures, generator), chosen(rows, "ep", generator) + chosen(rows, "sp", generator))
    return loss


def paper_batch(scorer, splits, size=32):
    """Rows of all given splits in equal parts."""
    def loss(generator):
        rows, good, bad = [], [], []
        for split in splits:
            index = torch.randint(len(split), (size // len(splits),), generator=generator).tolist()
            rows += [split.rows[i] for i in index]
            good.append(split.right[index])
            bad.append(split.wrong[index])
        x = disturbed(np.concatenate(good + bad), generator)
        return paper(scorer, x[:len(rows)], x[len(rows):], *(chosen(rows, k, generator) for k in ("ip", "ep", "sp")))
    return loss


def two_choice(scorer, split):
    """Share of rows whose right picture scores higher for the implicit prompt, and the share by task."""
    prompts = [r["ip"][0] for r in split.rows]
    won = scorer.scores(prompts, split.right) > scorer.scores(prompts, split.wrong)
    tasks = np.array([r["task"] for r in split.rows])
    return won.mean(), {t: round(float(won[tasks == t].mean()), 2) for t in sorted(set(tasks))}
