#!/usr/bin/env python3
"""Arms of a comparison as runs of sciflux: every arm and seed is one run of a preset with some keys set, its figures one line.

    study.py PLAN.json RESULTS.jsonl [--sciflux BIN] [--work DIR] [--lanes 2]

A plan has `preset`, `seeds`, `set` (keys of every run) and `arms`, each {name, set, start}: `start` names an earlier arm
whose adapter of the same seed it goes on from, and such a run then trains no stage 1. Lines that are there already are not
run again. Each lane is one run at a time on one thread; threads do not change a result.
"""
import argparse, json, os, queue, shutil, subprocess, threading, time
from concurrent.futures import ThreadPoolExecutor


def flags(settings):
    return [a for k, v in settings.items() for a in ("--set", f"{k}={json.dumps(v) if not isinstance(v, str) else v}")]


class Study:
    def __init__(self, args):
        self.args = args
        self.plan = json.load(open(args.plan))
        self.lock = threading.Lock()
        self.done = {}
        if os.path.exists(args.results):
            for line in open(args.results):
                r = json.loads(line)
                self.done[r["arm"], r["seed"]] = r

    def adapter(self, arm, seed):
        return os.path.join(self.args.work, "adapters", f"{arm}-{seed}")

    def run(self, arm, seed, lane):
        state = os.path.join(self.args.work, f"lane-{lane}")
        name = f"{arm['name']}-{seed}"
        settings = dict(self.plan["set"], seed=seed, **{"worker.threads": 1, "worker.shards": 1})
        settings.update(arm["set"])
        if "start" in arm:
            settings.update({"model.adapter": self.adapter(arm["start"], seed), "sft.steps": 0})
        begin = time.time()
        out = subprocess.run([self.args.sciflux, "run", self.plan["preset"], "--name", name, "--state-dir", state, *flags(settings)],
                             capture_output=True, text=True)
        if out.returncode:
            raise RuntimeError(f"{name}: exit {out.returncode}\n{out.stdout[-2000:]}\n{out.stderr[-2000:]}")
        shown = json.loads(subprocess.run([self.args.sciflux, "show", name, "--json", "--state-dir", state],
                                          capture_output=True, text=True, check=True).stdout)
        folder = os.path.join(state, "runs", name)
        shutil.copytree(os.path.join(folder, "export"), self.adapter(arm["name"], seed), dirs_exist_ok=True)
        line = {"arm": arm["name"], "seed": seed, "set": arm["set"], "start": arm.get("start", ""),
                "wall": round(time.time() - begin, 1), "metrics": shown["metrics"], "adapter": shown["adapter"]["sha256"],
                "seconds": {c["stage"]: round(c["seconds"], 1) for c in shown["checkpoints"]}}
        with self.lock:
            with open(self.args.results, "a") as f:
                f.write(json.dumps(line) + "\n")
            self.done[arm["name"], seed] = line
        self.tell(line)

    def tell(self, line):
        text = [f"{line['arm']:24} seed {line['seed']:3}"]
        for split, variants in line["metrics"].items():
            last = "oft" if "oft" in variants else "sft"
            v = variants[last]
            text.append(f"{split} RI {v['ri']:.3f} IP {100*v['judge_ip']:.1f} EP {100*v['judge_ep']:.1f} out {v['outside']:.2f}")
        print(" | ".join(text), line["seconds"], flush=True)

    def job(self, arm, seed, start, free):
        """One run, after the run whose adapter it goes on from, on a lane that is free."""
        if start:
            start.result()
        if (arm["name"], seed) in self.done:
            return
        lane = free.get()
        try:
            self.run(arm, seed, lane)
        finally:
            free.put(lane)

    def all(self):
        free, jobs = queue.SimpleQueue(), {}
        for lane in range(self.args.lanes):
            free.put(lane)
        with ThreadPoolExecutor(self.args.lanes) as pool:
            for arm in self.plan["arms"]:
                for seed in arm.get("seeds", self.plan["seeds"]):
                    start = jobs[arm["start"], seed] if "start" in arm else None
                    jobs[arm["name"], seed] = pool.submit(self.job, arm, seed, start, free)
        for lane in range(self.args.lanes):
            subprocess.run([self.args.sciflux, "down", "--state-dir", os.path.join(self.args.work, f"lane-{lane}")], capture_output=True)
        for job in jobs.values():
            job.result()


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("plan")
    p.add_argument("results")
    p.add_argument("--sciflux", default="bin/sciflux")
    p.add_argument("--work", default="study-work")
    p.add_argument("--lanes", type=int, default=2)
    Study(p.parse_args()).all()
