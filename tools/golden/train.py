"""Both stages of a run as the config's comments and the papers describe them, on torch's own autograd and AdamW."""

import math

import numpy as np
import torch
from PIL import Image

from draws import Key
from parts import pack


def linear_rate(o, step):
    """Step j, from 0, has lr·min(1, j/warmup_steps)."""
    return o["lr"] * min(1, step / o["warmup_steps"]) if o["warmup_steps"] else o["lr"]


class Training:
    """An adapter with AdamW, warm-up, clipping and an average."""

    def __init__(self, adapter, o):
        self.adapter, self.o, self.steps = adapter, o, 0
        self.optimizer = torch.optim.AdamW(
            adapter.parameters(), lr=o["lr"], betas=tuple(o["betas"]), eps=o["eps"], weight_decay=o["weight_decay"])
        self.optimizer.zero_grad(set_to_none=False)
        for p in adapter.parameters():
            p.grad = torch.zeros_like(p)
        self.mean = adapter.copy() if o["ema"] else None

    def evaluated(self):
        """What is measured, exported and handed to the next stage: the average where there is one."""
        return self.mean or self.adapter

    def step(self):
        """Takes the gradients that were added up; -> norm before clipping, rate."""
        parameters = self.adapter.parameters()
        limit = self.o["max_grad_norm"] or math.inf
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()
        rate = linear_rate(self.o, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.steps += 1
        if self.mean:
            with torch.no_grad():
                for m, p in zip(self.mean.parameters(), parameters):
                    m += (1 - self.o["ema"]) * (p - m)
        return norm, rate


class SFT:
    """Stage 1: weighted rectified flow."""

    def __init__(self, pipe, config, rows, adapter):
        self.pipe, self.c, self.o, self.rows = pipe, config, config["sft"], rows
        self.training = Training(adapter, self.o)
        self.root = Key.of(config["seed"])

    def step(self, number):
        total = 0.0
        for a in range(self.o["accumulate"]):
            first = (number * self.o["accumulate"] + a) * self.o["batch"]
            loss = self.loss(range(first, first + self.o["batch"])) / self.o["accumulate"]
            loss.backward()
            total += loss.item()
        norm, rate = self.training.step()
        return {"loss": total, "grad_norm": norm, "learning_rate": rate}

    def loss(self, samples):
        drawn = [self.sample(s) for s in samples]
        captions = [d[0] for d in drawn]
        latents, noise = torch.stack([d[1] for d in drawn]), torch.stack([d[2] for d in drawn])
        sigma = torch.stack([d[3] for d in drawn])
        x = (1 - sigma)[:, None, None] * latents + sigma[:, None, None] * noise
        text = self.pipe.encode(captions, self.c["model"]["text_tokens"])
        v = self.pipe.velocity(x, 1000 * sigma, text, self.o["guidance"], self.training.adapter)
        squares = ((v - (noise - latents)) ** 2).double().mean(dim=(1, 2))
        return (self.weight(sigma.double()) * squares).mean()

    def sample(self, s):
        """-> caption, latents [N, C], noise [N, C], sigma. Every number is keyed by the sample's place in the run."""
        key = self.root.purpose("sft").index(s)
        n = len(self.rows)
        row = self.rows[self.root.purpose("sft order").index(s // n).permutation(n)[s % n]]
        kind = self.c["data"]["captions"]
        if kind == "both":  # in turn
            kind = ("implicit", "explicit")[s % 2]
        wordings = row[kind]
        caption = wordings[key.purpose("caption").below(0, len(wordings))]
        side = self.c["data"]["resolution"]
        picture = square(row["right"][key.purpose("picture").below(0, len(row["right"]))], side)
        posterior = torch.from_numpy(key.purpose("posterior").normal(*self.pipe.latent_shape(side)))
        latents = self.pipe.latents(picture, posterior)
        noise = torch.from_numpy(key.purpose("noise").normal(*latents.shape))
        return caption, latents, noise, self.sigma(key.purpose("sigma"))

    def sigma(self, key):
        """The density says where on the descending training grid: large u is little noise. A shift moves the level that was drawn."""
        d, grid = self.o["density"], self.pipe.training_grid()
        if d["kind"] == "logit_normal":
            u = 1 / (1 + math.exp(-(d["mean"] + d["std"] * float(key.normal(1)[0]))))
        else:
            u = key.uniform(0)
            if d["kind"] == "mode":
                u = 1 - u - d["scale"] * (math.cos(math.pi * u / 2) ** 2 - 1 + u)
        s, a = grid[min(max(int(u * len(grid)), 0), len(grid) - 1)].double(), d.get("shift", 1)
        if a == "dynamic":
            a = math.exp(self.pipe.mu((self.c["data"]["resolution"] // self.pipe.factor // 2) ** 2))
        return (a * s / (1 + (a - 1) * s)).float()

    def weight(self, s):
        return {"none": lambda: torch.ones_like(s), "sigma_sqrt": lambda: s ** -2,
                "cosmap": lambda: 2 / (math.pi * (1 - 2 * s + 2 * s * s))}[self.o["weighting"]]()


def square(picture, side):
    """Shorter side to `side` (bilinear, the longer one rounded down), middle cut out; where that is not exact, half a pixel to the
    upper left, as CLIP's processor does (torchvision's CenterCrop goes to the even pixel)."""
    w, h = picture.size
    if (w, h) == (side, side):
        return picture
    width, height = (w * side // h, side) if w > h else (side, h * side // w)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))


class Step:
    """x' = mean(x, v) + std·ξ from noise level s to t, for one form of the stochastic step."""

    def __init__(self, form, s, t, n, churn):
        self.form, self.s, self.t = form, s, t
        gamma = min(churn / n, math.sqrt(2) - 1)
        self.std = s * math.sqrt((1 + gamma) ** 2 - 1)
        if form == "exact" and churn:
            self.std = min(self.std, 0.95 * t)
        self.euler = churn == 0

    def mean(self, x, v):
        s, t, std = self.s, self.t, self.std
        if self.euler:
            return x + (t - s) * v
        if self.form == "paper":
            return x + (t - s) * (v + std ** 2 / (2 * s) * (-x + (1 - s) * v))
        if self.form == "corrected":
            return x + (t - s) * v - std ** 2 / (2 * s) * (x + (1 - s) * v)
        clean, noise = x - s * v, x + (1 - s) * v
        return (1 - t) * clean + math.sqrt(t * t - std * std) * noise

    def density(self, x, v, after):
        """Logarithm, per element."""
        return -(after - self.mean(x, v)) ** 2 / (2 * self.std ** 2) - math.log(self.std) - 0.5 * math.log(2 * math.pi)


def steps_of(form, sigmas, churn, noisy):
    """noisy: so many first steps have noise, the rest are Euler's; 0 for all."""
    s, n = [float(x) for x in sigmas], len(sigmas) - 1
    return [Step(form, s[i], s[i + 1], n, churn if not noisy or i < noisy else 0) for i in range(n)]


@torch.no_grad()
def sample(pipe, adapter, texts, config, tokens, guidance, sigmas, steps, start, noise):
    """Follows the steps from start [B, N, C]; noise(i) fills step i -> list of n+1 states."""
    sigmas, timesteps = sigmas
    states, text = [start], pipe.encode(texts, tokens)
    for i, step in enumerate(steps):
        x = states[-1]
        v = pipe.velocity(x, timesteps[i].expand(len(x)), text, guidance, adapter).double()
        mean = step.mean(x.double(), v)
        states.append((mean + step.std * noise(i).double() if step.std else mean).float())
    return states


class OFT:
    """Stage 2: online DPO under masks."""

    def __init__(self, pipe, scorer, config, rows, prompts, start, reference):
        self.pipe, self.scorer, self.c, self.o = pipe, scorer, config, config["oft"]
        self.rows, self.prompts, self.reference = rows, prompts, reference
        self.training, self.root = Training(start.copy(), self.o), Key.of(config["seed"])
        self.untrained = set()  # (prompt, picture) whose pairs train nothing
        self.side, self.tokens = config["data"]["resolution"], config["model"]["text_tokens"]
        self.grid = self.side // pipe.factor  # latent cells of a side
        form, o = self.o["forms"], self.o
        self.schedule = pipe.schedule(o["steps"], (self.grid // 2) ** 2)
        self.steps = steps_of(form["step"], self.schedule[0], o["s_churn"], o["noisy_steps"])
        self.read = self.steps
        if form["sigmas"] == "paper":  # training reads what an evaluation of 1024×1024 pixels left behind
            self.read = steps_of(form["step"], pipe.schedule(o["steps"], 64 * 64)[0], o["s_churn"], o["noisy_steps"])

    def drawn_prompts(self, epoch):
        """-> of each: number, text, object, row (None for a prompt of a file)"""
        key, n, out = self.root.purpose("oft prompts"), len(self.prompts), []
        for number in range(epoch * self.o["prompts_per_epoch"], (epoch + 1) * self.o["prompts_per_epoch"]):
            p = dict(self.prompts[key.index(number // n).permutation(n)[number % n]], number=number)
            if p["row"] is not None:
                wordings = self.rows[p["row"]]["implicit"]
                p["text"] = wordings[key.purpose("wording").below(number, len(wordings))]
            out.append(p)
        return out

    def rollouts(self, epoch, policy):
        """-> prompts, states [P, S, n+1, N, C], pictures [P·S, 3, S, S], rewards [P][S]"""
        prompts, images = self.drawn_prompts(epoch), self.o["images_per_prompt"]
        shape = (self.grid // 2) ** 2, self.pipe.transformer.config.in_channels
        draw = lambda purpose, i: torch.stack([torch.from_numpy(
            self.root.purpose(purpose).index(p["number"], k, i).normal(*shape)) for p in prompts for k in range(images)])
        texts = [p["text"] for p in prompts for _ in range(images)]
        states = sample(self.pipe, policy, texts, self.c, self.tokens, self.o["guidance"], self.schedule, self.steps,
                        draw("oft start", 0), lambda i: draw("oft noise", i))
        pictures = self.pipe.decode(states[-1], self.side)
        scores = self.scorer.score(texts, pictures)
        rewards = [scores[i:i + images] for i in range(0, len(scores), images)]
        return prompts, torch.stack(states, 1).unflatten(0, (len(prompts), images)), pictures, rewards

    def train(self, prompts, states, rewards, masks):
        """An epoch. masks[p][k] is a [2·rows, 2·columns] array of 0 and 1, or None -> one record a step"""
        every = self.o["accumulate_pairs"]
        return [self.step(range(g, g + every), prompts, states, rewards, masks) for g in range(0, len(prompts), every)]

    def step(self, group, prompts, states, rewards, masks):
        trained = [j for j, s in enumerate(self.read) if s.std]
        share, r = 1 / (len(group) * len(trained)), {"loss": 0.0, "kl": [], "clamped": []}
        for p in group:
            for j in trained:
                loss = share * self.pair_loss(p, prompts[p]["text"], states[p, :, j], states[p, :, j + 1], j, rewards[p], masks[p], r)
                r["loss"] += loss.item()
                if loss.requires_grad:
                    loss.backward()
        r["grad_norm"], r["learning_rate"] = self.training.step()
        for name in ("kl", "clamped"):
            r[name] = sum(r[name]) / len(r[name])
        return r

    def pair_loss(self, p, prompt, x, after, j, rewards, masks, record):
        """All ordered pairs of one prompt's pictures at one step: −ln sigmoid(beta·(ρ_w − ρ_l))."""
        step, o, b = self.read[j], self.o, len(rewards)
        text = self.pipe.encode([prompt] * b, self.tokens)
        timestep = self.schedule[1][j].expand(b)
        with torch.no_grad():
            old = self.pipe.velocity(x, timestep, text, o["guidance"], self.reference).double()
        v = self.pipe.velocity(x, timestep, text, o["guidance"], self.training.adapter).double()
        x, after = x.double(), after.double()
        difference = torch.stack([self.masked_mean(step.density(x[i], v[i], after[i]), masks[i]) -
                                  self.masked_mean(step.density(x[i], old[i], after[i]), masks[i]) for i in range(b)])
        ratio, eps = difference.exp(), o["eps_clamp"]
        rho = ratio.clamp(1 - eps, 1 + eps).log()
        for i in range(b):
            apart = (step.mean(x[i], v[i]) - step.mean(x[i], old[i])).detach() ** 2 / (2 * step.std ** 2)
            record["kl"].append(self.kept_mean(apart, masks[i]).item())
            record["clamped"].append(float(abs(ratio[i].item() - 1) > eps))
        better = [(w, l) for w in range(b) for l in range(b) if rewards[w] > rewards[l] and rewards[w] - rewards[l] >= o["min_gap"]
                  and (p, w) not in self.untrained and (p, l) not in self.untrained]
        losses = [-torch.nn.functional.logsigmoid(o["beta"] * (rho[w] - rho[l])) for w, l in better]
        if o["forms"]["pairs"] == "paper":  # over all B² entries, of which those without a preference are ln 2
            return (sum(losses) + (b * b - len(better)) * math.log(2)) / (b * b)
        return sum(losses) / len(losses) if losses else torch.zeros(())

    def masked_mean(self, values, mask):
        if mask is not None and self.o["forms"]["mean"] == "paper":
            return (values * self.cells(mask)).mean()
        return self.kept_mean(values, mask)

    def kept_mean(self, values, mask):
        if mask is None:
            return values.mean()
        kept = self.cells(mask)
        return (values * kept).sum() / max(1, kept.sum().item())

    def cells(self, mask):
        """[h, w] cells -> a weight for every packed element [N, C]"""
        z = torch.as_tensor(mask, dtype=torch.float64).expand(1, self.pipe.vae.config.latent_channels, *mask.shape)
        return pack(z.contiguous())[0]

    def box_mask(self, box):
        """The latent cells inside a box (centre and size, parts of the picture); corners as the form says."""
        mask, spans = np.zeros((self.grid, self.grid)), []
        for centre, size in ((box[1], box[3]), (box[0], box[2])):  # rows, then columns
            low, high = ((np.float32(centre) + sign * np.float32(size) / 2) * np.float32(self.grid) for sign in (-1, 1))
            if self.o["forms"]["corners"] == "corrected":
                low, high = (min(max(v, 0), self.grid) for v in (low, high))
            spans.append(slice(int(low), int(high)))  # int() cuts toward zero, and a slice counts negative bounds from the end
        mask[spans[0], spans[1]] = 1
        return mask


def surrounding(found, form):
    """The box that counts: around all that was found, each side 0.1 longer (1 when it is over 0.9), the centre kept; unless the
    form is the paper's its corners are then moved into the picture. Everything where nothing was found."""
    f = np.float32
    if not found:
        return [0.5, 0.5, 1.0, 1.0]
    box = []
    for c, s in ((0, 2), (1, 3)):
        low, high = min(f(b[c]) - f(b[s]) / 2 for b in found), max(f(b[c]) + f(b[s]) / 2 for b in found)
        size = f(high - low)
        size = f(1) if size > f(0.9) else size + f(0.1)
        low, high = float((f(low) + f(high)) / 2) - size / 2, float((f(low) + f(high)) / 2) + size / 2
        if form == "corrected":
            low, high = max(0, low), min(1, high)
        box.append((float(low + high) / 2, float(high - low)))
    return [box[0][0], box[1][0], box[0][1], box[1][1]]


def measure(pipe, scorer, config, rows, adapter):
    """The evaluation of some rows -> of each: scores by kind of prompt, pictures by kind [n, 3, S, S]"""
    e, side, tokens = config["eval"], config["data"]["resolution"], config["model"]["text_tokens"]
    cells = side // pipe.factor // 2
    schedule = pipe.schedule(e["steps"], cells ** 2)
    steps = steps_of(config["oft"]["forms"]["step"], schedule[0], e["s_churn"], 0)
    out = []
    for i, row in enumerate(rows):
        scores, pictures = {}, {}
        for kind, n in (("implicit", e["pictures"]), ("explicit", max(1, e["pictures"] // 2)), ("superficial", max(1, e["pictures"] // 4))):
            keys = [Key.of(e["seed"]).purpose("eval " + kind).index(i, k) for k in range(n)]
            shape = cells ** 2, pipe.transformer.config.in_channels
            draw = lambda key_of: torch.stack([torch.from_numpy(key_of(k).normal(*shape)) for k in keys])
            states = sample(pipe, adapter, [row[kind][0]] * n, config, tokens, e["guidance"], schedule, steps,
                            draw(lambda k: k.purpose("start")), lambda s: draw(lambda k: k.purpose("noise").index(s)))
            pictures[kind] = pipe.decode(states[-1], side)
            scores[kind] = scorer.score([row["implicit"][0]] * n, pictures[kind])
        out.append((scores, pictures))
    return out
