"""Makes the tiny models of the world from its parquet files, with fixed seeds:

    python tools/world/make.py --data DIR --out models [--work DIR]

Every stage leaves a file in the work folder and is skipped when that file is there, so a broken run goes on where it was."""
import argparse
import os

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPModel, CLIPTokenizer, T5TokenizerFast

import base
import data
import evaluate
import export
import nets
import sciscore
import tokens
import vae

VAE_STEPS = 2600
BASE_COMPONENTS, BASE_STEPS = 3250, 6000  # steps on the VAE teacher's latents, steps in all
POLISH_STEPS, POLISH_RATE, POLISH_FLAT, POLISH_SEED = 2000, 7e-4, 0.2, 100000  # after the scorer took its pictures from the base
BASE_ROWS = 8000  # rows of pretrain whose VAE latents are used (three poses of every tuple)
CLIP_STEPS, PAPER_STEPS, GENERATED_STEPS = 700, 500, 600


def log(*text):
    print(*text, flush=True)


class Maker:
    def __init__(self, folder, work):
        os.makedirs(work, exist_ok=True)
        self.folder, self.work, self.splits = folder, work, {}

    def path(self, name):
        return os.path.join(self.work, name)

    def split(self, name):
        if name not in self.splits:
            self.splits[name] = data.load(self.folder, name)
        return self.splits[name]

    def pictures(self):
        """All pictures of pretrain, mixed."""
        s = self.split("pretrain")
        return np.concatenate([s.right, s.wrong])[np.random.default_rng(1).permutation(2 * len(s))]

    def known(self):
        """Rows of pretrain whose task, subject and scene are in train: more poses of the same tuples, nothing held out."""
        pre, key = self.split("pretrain"), lambda r: (r["task"], r["subject"], r["scene"])
        keys = {key(r) for r in self.split("train").rows}
        return pre.take([i for i, r in enumerate(pre.rows) if key(r) in keys])

    def tokenizers(self):
        if not os.path.exists(self.path("tokenizer_2/tokenizer.json")):
            tokens.main([self.split(s) for s in ("train", "test_S", "test_C", "pretrain")], self.work)
        return CLIPTokenizer.from_pretrained(self.path("tokenizer")), T5TokenizerFast.from_pretrained(self.path("tokenizer_2"))

    def autoencoder(self):
        if not os.path.exists(self.path("vae/config.json")):
            s, c = self.split("test_S"), self.split("test_C")
            held = np.concatenate([c.right[:64], s.right[:64], c.wrong[:64], s.wrong[:64]])
            vae.train(self.pictures(), held, VAE_STEPS, log=log).save_pretrained(self.path("vae"))
        return AutoencoderKL.from_pretrained(self.path("vae")).eval().requires_grad_(False)

    def component_latents(self):
        """Latents of the VAE's teacher, by 0 superficial, 1 right."""
        s, teacher = self.split("pretrain"), vae.Components(nets.to_float(self.pictures()[:2000]))
        with torch.no_grad():
            return [torch.cat([nets.pack(teacher(nets.to_float(p[i:i + 500]))) for i in range(0, len(p), 500)]) for p in (s.wrong, s.right)]

    def pipeline(self, weights="base.pt"):
        """The pipeline with weights of the work folder, or with None untrained."""
        torch.manual_seed(0)
        pipe = nets.Pipeline(*self.tokenizers(), nets.vae())
        pipe.vae = self.autoencoder()
        if weights:
            pipe.load_state_dict(torch.load(self.path(weights))["pipe"], strict=False)
            pipe.requires_grad_(False).eval()
        return pipe

    def base(self):
        """First on the teacher's latents (that part needs no VAE and can run beside it), then on the VAE's."""
        if os.path.exists(self.path("base.pt")):
            return
        pipe, rows = self.pipeline(None), self.split("pretrain").rows
        if not os.path.exists(self.path("warm.pt")):
            state = base.train(pipe, rows, self.component_latents(), range(BASE_COMPONENTS), BASE_STEPS, log=log)
            self.keep(pipe, state, "warm.pt")
        warm = torch.load(self.path("warm.pt"))
        pipe.load_state_dict(warm["pipe"], strict=False)
        state = base.train(pipe, rows[:BASE_ROWS], self.latents(pipe), range(BASE_COMPONENTS, BASE_STEPS), BASE_STEPS, warm["opt"], log)
        self.keep(pipe, state, "base.pt")

    def latents(self, pipe):
        """Latents of the VAE, by 0 superficial, 1 right."""
        s, g = self.split("pretrain"), torch.Generator().manual_seed(0)
        return [pipe.encode_pictures(p[:BASE_ROWS], g) for p in (s.wrong, s.right)]

    def polish(self):
        """More steps of the base at half its rate: explicit prompts are obeyed more often."""
        if os.path.exists(self.path("base_polished.pt")):
            return
        pipe = self.pipeline(None)
        old = torch.load(self.path("base.pt"))
        pipe.load_state_dict(old["pipe"], strict=False)
        rows = self.split("pretrain").rows[:BASE_ROWS]
        state = base.train(pipe, rows, self.latents(pipe), range(POLISH_STEPS), POLISH_STEPS, old["opt"], log, POLISH_RATE, POLISH_FLAT, POLISH_SEED)
        self.keep(pipe, state, "base_polished.pt")

    def keep(self, pipe, state, name):
        weights = {k: v for k, v in pipe.state_dict().items() if not k.startswith("vae.")}
        torch.save({"pipe": weights, "opt": state}, self.path(name))

    def scorer(self, stage):
        clip = self.tokenizers()[0]
        torch.manual_seed(0)
        s = sciscore.Scorer(nets.sciscore(len(clip)), clip)
        if os.path.exists(self.path(stage)):
            s.model = CLIPModel.from_pretrained(self.path(stage))
        s.model.eval()
        return s

    def drawn_scorer(self):
        """SciScore on drawn pictures."""
        if not os.path.exists(self.path("sciscore_drawn")):
            s = self.scorer("none")
            sciscore.fit(s, sciscore.clip_batch(s, self.split("pretrain")), CLIP_STEPS, 2e-3, "clip", log)
            sciscore.fit(s, sciscore.paper_batch(s, [self.known()]), PAPER_STEPS, 5e-4, "sciscore", log)
            s.model.save_pretrained(self.path("sciscore_drawn"))
        return self.scorer("sciscore_drawn")

    def generated(self, pipe):
        """Pictures of the base for every tuple of train: right ones from explicit, superficial ones from superficial prompts."""
        if not os.path.exists(self.path("generated.npz")):
            s = self.split("train")
            right, wrong = (evaluate.generate(pipe, s, kind, 1, seed)[0] for kind, seed in (("ep", 7), ("sp", 8)))
            np.savez(self.path("generated.npz"), right=right, wrong=wrong)
        z = np.load(self.path("generated.npz"))
        return data.Split(self.split("train").rows, z["right"], z["wrong"])

    def final_scorer(self, pipe):
        """Then on drawn and generated pictures, half each."""
        if not os.path.exists(self.path("sciscore")):
            s = self.drawn_scorer()
            s.model.requires_grad_(True)
            sciscore.fit(s, sciscore.paper_batch(s, [self.known(), self.generated(pipe)]), GENERATED_STEPS, 5e-4, "generated", log)
            s.model.save_pretrained(self.path("sciscore"))
        return self.scorer("sciscore")

    def report(self, pipe, scorer):
        for name in ("test_S", "test_C"):
            split = self.split(name)
            share, by = sciscore.two_choice(scorer, split)
            log(f"{name}: two-choice {share:.3f} {by}")
            found, pictures = evaluate.rates(pipe, split, each=2, scorer=scorer)
            for kind, r in found.items():
                log(f"{name} {kind}: {r}")
            for kind, p in pictures.items():
                evaluate.grid(p[::2]).save(self.path(f"{name}_{kind}.png"))


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--data", required=True, help="folder with the world's parquet files, pretrain split included")
    a.add_argument("--out", required=True, help="folder for world/ and world-sciscore/")
    a.add_argument("--work", default="world-work", help="folder for what the stages leave")
    a = a.parse_args()
    torch.set_num_threads(1)
    m = Maker(a.data, a.work)
    m.autoencoder()
    m.base()
    scorer = m.final_scorer(m.pipeline())
    m.polish()
    pipe = m.pipeline("base_polished.pt")
    export.pipeline(pipe, a.work, os.path.join(a.out, "world"))
    export.sciscore(scorer.model, a.work, os.path.join(a.out, "world-sciscore"))
    m.report(pipe, scorer)


if __name__ == "__main__":
    main()
