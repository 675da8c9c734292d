"""Recomputes a few training steps of both stages and an evaluation with PyTorch, and writes what the tests of worker compare with.

    python tools/golden/make_steps.py [--out worker/testdata/golden]
"""

import argparse
import base64
import json
import os
import shutil
import subprocess

import numpy as np
import torch
from safetensors.torch import save_file

import cases
import data
from draws import Key
from parts import Adapter, Pipeline, Scorer, to_bytes
from train import OFT, SFT, measure, surrounding

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Recorder:
    """Numbers go to a JSON file, arrays to a safetensors file."""

    def __init__(self, case):
        self.case, self.numbers, self.arrays = case, {}, {}

    def adapter(self, name, adapter):
        for module, (a, b) in adapter.weights.items():
            self.arrays[f"{name}/{module}.A"] = a.detach().clone()
            self.arrays[f"{name}/{module}.B"] = b.detach().clone()

    def half(self, name, value):
        self.arrays[name] = value.half().contiguous()

    def write(self, folder):
        with open(os.path.join(folder, self.case["name"] + ".yaml"), "w") as f:
            f.write("\n".join(cases.yaml(self.case)) + "\n")
        with open(os.path.join(folder, self.case["name"] + ".json"), "w") as f:
            json.dump(self.numbers, f, indent=1)
        path = os.path.join(folder, self.case["name"] + ".safetensors")
        save_file(self.arrays, path)
        os.chmod(path, 0o644)


def initial(case, pipe):
    """A drawn by the run's seed and the module's name, B zero."""

    def fill(name, rank, width):
        key = Key.of(case["seed"]).purpose("lora " + name)
        if case["lora"]["init"] == "gaussian":  # standard deviation 1/rank
            return torch.from_numpy(key.normal(rank, width)) / rank
        u = np.array([key.uniform(i) for i in range(rank * width)])  # uniform in ±1/√in
        return torch.from_numpy(((2 * u - 1) / np.sqrt(width)).astype(np.float32)).view(rank, width)

    return Adapter(pipe.transformer, case["lora"], fill)


class Case:
    def __init__(self, case, folder, models):
        self.c, self.folder, self.record = case, folder, Recorder(case)
        self.pipe = Pipeline(os.path.join(models, "world"), case["model"].get("dtype", "auto"))
        self.scorer = Scorer(os.path.join(models, "world-sciscore"))
        if case["data"].get("source") == "world":
            self.rows = world("rows", str(case["data"]["train_tuples"]))
        else:
            self.rows = data.read(folder, case["data"]["train_split"], case["data"]["train_tuples"])
        self.test = data.spread(data.read(folder, "test_S"), case["eval"]["tuples"])
        self.start = initial(case, self.pipe)
        self.record.numbers["scales"] = self.start.scales

    def prompts(self):
        if "prompts" not in self.c["data"]:
            return [{"text": r["implicit"][0], "object": r["object"], "row": i} for i, r in enumerate(self.rows)]
        with open(os.path.join(self.folder, self.c["data"]["prompts"])) as f:
            return [{"text": p["prompt"], "object": p["object"], "row": None} for p in json.load(f)]

    def sft(self, more=0):
        """more: steps beyond the stage's, for the comparison at equal time -> the adapter that is evaluated and that stage 2 begins with"""
        self.record.adapter("initial", self.start)
        stage = SFT(self.pipe, self.c, self.rows, self.start.copy())
        steps = []
        for k in range(self.c["sft"]["steps"]):
            steps.append(stage.step(k))
            self.record.adapter(f"sft/{k + 1}", stage.training.adapter)
        if stage.training.mean:
            self.record.adapter(f"sft/{len(steps)}/mean", stage.training.mean)
        self.record.numbers["sft"] = steps
        end = stage.training.evaluated().copy()
        if more:
            self.record.numbers["compare"] = [stage.step(len(steps) + k) for k in range(more)]
            self.record.adapter("compare", stage.training.adapter)
        return end

    def oft(self, start, reference, masks=None):
        stage = OFT(self.pipe, self.scorer, self.c, self.rows, self.prompts(), start, reference)
        epochs = []
        for epoch in range(self.c["oft"]["epochs"]):
            prompts, states, pictures, rewards = stage.rollouts(epoch, stage.training.adapter)
            e = {"prompts": [{k: p[k] for k in ("number", "text", "object")} for p in prompts], "rewards": rewards}
            marks = (masks or self.no_masks)(stage, prompts, pictures, rewards, e)
            e["steps"] = stage.train(prompts, states, rewards, marks)
            kept = states[:, :, 1:] if epoch == 0 else states[:, :, -1:]  # the start is drawn and not computed
            self.record.half(f"oft/{epoch}/latents", kept)
            self.record.adapter(f"oft/{epoch}", stage.training.adapter)
            if stage.training.mean:
                self.record.adapter(f"oft/{epoch}/mean", stage.training.mean)
            epochs.append(e)
        self.record.numbers["oft"] = epochs
        return stage.training.evaluated()

    def no_masks(self, stage, prompts, pictures, rewards, record):
        return [[None] * len(r) for r in rewards]

    def given_boxes(self, stage, prompts, pictures, rewards, record):
        """Boxes that no detector has found: over edges far and near, behind them, thin, around everything."""
        boxes = [[0.1, 0.5, 0.9, 0.6], [0.45, 0.4, 1.5, 0.5], [0.9, 0.2, 0.5, 0.7], [0.46, 0.3, 1.0, 1.3],
                 [-0.3, 0.4, 0.2, 0.9], [0.31, 0.77, 0.26, 0.51]]
        record["boxes"] = [[boxes[(3 * p + k) % len(boxes)] for k in range(len(r))] for p, r in enumerate(rewards)]
        return [[stage.box_mask(b) for b in row] for row in record["boxes"]]

    def found_boxes(self, stage, prompts, pictures, rewards, record):
        images = len(rewards[0])
        found = detect([self.rows[p["row"]]["tuple"] for p in prompts for _ in range(images)], pictures)
        record["found"] = [found[i:i + images] for i in range(0, len(found), images)]
        record["boxes"] = [[surrounding([f] if f else [], self.c["oft"]["forms"]["corners"]) for f in row] for row in record["found"]]
        stage.untrained = {(p, k) for p, row in enumerate(record["found"]) for k, f in enumerate(row) if not f}
        return [[stage.box_mask(b) for b in row] for row in record["boxes"]]

    def evaluate(self, **adapters):
        variants = {}
        for name, adapter in adapters.items():
            measured = measure(self.pipe, self.scorer, self.c, self.test, adapter)
            variants[name] = [scores for scores, _ in measured]
            first = np.stack([to_bytes(pictures["implicit"][0]) for _, pictures in measured])
            self.record.arrays[f"eval/{name}/first"] = torch.from_numpy(first)
        self.record.numbers["eval"] = variants
        mean = lambda v, kind: float(np.mean([s for scores in variants[v] for s in scores[kind]]))
        base = {k: mean("base", k) for k in data.KINDS}
        self.record.numbers["results"] = {v: {
            "ip": mean(v, "implicit"), "ep": mean(v, "explicit"), "sp": mean(v, "superficial"),
            "nd": (mean(v, "implicit") - mean(v, "superficial")) / (mean(v, "explicit") - mean(v, "superficial")),
            "ri": (mean(v, "implicit") - base["implicit"]) / (base["explicit"] - base["implicit"])} for v in variants}


def detect(tuples, pictures):
    """The world's detector on pictures [B, 3, S, S] -> [cx, cy, w, h] or None of each"""
    return world("boxes", ask=[{"tuple": t, "side": p.shape[-1], "pixels": base64.b64encode(to_bytes(p).tobytes()).decode()}
                               for t, p in zip(tuples, pictures)])


def world(*words, ask=None):
    command = ["go", "run", "./tools/golden/world", *words]
    out = subprocess.run(command, input=json.dumps(ask), capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(out.stdout)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--out", default=os.path.join(ROOT, "worker", "testdata", "golden"))
    a.add_argument("--models", default=os.path.join(ROOT, "models"))
    a = a.parse_args()
    torch.set_num_threads(1)
    shutil.rmtree(a.out, ignore_errors=True)
    data.write(a.out)

    odd = Case(cases.ODD, a.out, a.models)
    sft = odd.sft(more=2)
    oft = odd.oft(sft, sft)
    odd.evaluate(base=None, sft=sft, oft=oft)
    odd.record.write(a.out)

    paper = Case(cases.PAPER, a.out, a.models)
    sft = paper.sft()
    paper.oft(sft, paper.start, masks=paper.given_boxes)
    paper.record.write(a.out)

    scenes = Case(cases.WORLD, a.out, a.models)
    scenes.record.adapter("initial", scenes.start)
    scenes.oft(scenes.start, scenes.start, masks=scenes.found_boxes)
    scenes.record.write(a.out)


if __name__ == "__main__":
    main()
