"""The configs of the golden cases. Every value that reaches the trainer is given and none is the default's."""

import copy

ODD = {
    "name": "odd", "seed": 7041,
    "model": {"pipeline": "world", "compute": "f32", "text_tokens": 11, "batch_tokens": 100},
    "data": {"train_split": "train", "train_tuples": 5, "resolution": 48, "captions": "implicit"},
    "lora": {"targets": ["transformer_blocks.1.attn.to_v", "to_add_out", "single_transformer_blocks.2.proj_mlp", "norm_out.linear"],
             "exclude": ["transformer_blocks.0.attn.to_add_out"], "rank": 3, "alpha": 1.7, "init": "gaussian",
             "rank_pattern": ["attn.to_v=5"], "alpha_pattern": ["proj_.*=0.6"]},
    "sft": {"steps": 3, "batch": 2, "accumulate": 2, "lr": 0.013, "warmup_steps": 2, "betas": [0.71, 0.93], "eps": 2e-4,
            "weight_decay": 1.9, "max_grad_norm": 0.11, "ema": 0, "weighting": "sigma_sqrt",
            "density": {"kind": "logit_normal", "mean": 0.8, "std": 0.6, "shift": 1.4}, "guidance": 2.6, "chunk_steps": 2},
    "oft": {"epochs": 2, "prompts_per_epoch": 4, "images_per_prompt": 3, "steps": 5, "s_churn": 0.9, "noisy_steps": 3, "guidance": 1.3,
            "forms": {"step": "exact", "corners": "corrected", "mean": "corrected", "pairs": "corrected", "sigmas": "corrected"},
            "beta": 7.3, "eps_clamp": 0.002, "min_gap": 0, "accumulate_pairs": 2, "lr": 0.06, "warmup_steps": 1, "betas": [0.63, 0.97],
            "eps": 3e-5, "weight_decay": 1.3, "max_grad_norm": 0.011, "ema": 0.37, "mask": {"policy": "none"}},
    "eval": {"splits": ["test_S"], "tuples": 2, "pictures": 3, "steps": 4, "guidance": 0.7, "s_churn": 0.4, "seed": 99, "bootstrap": 20,
             "during": {"tuples": 1, "pictures": 2}},
    "reward": {"sciscore": "world", "batch": 5},
    "worker": {"memory": "selective"},
}

PAPER = copy.deepcopy(ODD)
PAPER.update(name="paper", seed=12345678901)
PAPER["model"].update(text_tokens=21, dtype="bf16")
PAPER["data"].update(train_tuples=0, resolution=32, captions="both", prompts="prompts.json", cache_latents=False)
PAPER["lora"] = {"targets": ["single_transformer_blocks.1.attn.to_q", "transformer_blocks.0.ff.net.2", "context_embedder"],
                 "rank": 5, "alpha": 0.9, "rslora": True, "init": "kaiming"}
PAPER["sft"].update(steps=2, batch=3, warmup_steps=0, ema=0.63, density={"kind": "mode", "scale": 0.7, "shift": "dynamic"},
                    weighting="cosmap", guidance=1.1, max_grad_norm=0)
PAPER["oft"].update(epochs=1, steps=4, s_churn=0.6, noisy_steps=0, warmup_steps=0, ema=0, mask={"policy": "full"},
                    forms={"step": "paper", "corners": "paper", "mean": "paper", "pairs": "paper", "sigmas": "paper"})
PAPER["worker"]["memory"] = "full"

WORLD = copy.deepcopy(ODD)
WORLD.update(name="world", seed=9)
WORLD["model"].update(text_tokens=14)
WORLD["data"].update(source="world", train_tuples=6, resolution=64, captions="explicit")
WORLD["lora"].update(targets=["to_v", "to_add_out", "proj_out", "norm_out.linear"], exclude=["single_transformer_blocks.3.attn.to_v"],
                     blocks=["transformer_blocks.1", "single_transformer_blocks.2-3"])
WORLD["sft"].update(steps=0, warmup_steps=0)
WORLD["oft"].update(epochs=1, prompts_per_epoch=6, accumulate_pairs=3, images_per_prompt=2, steps=6, s_churn=1.2, noisy_steps=2,
                    warmup_steps=0, min_gap=0.9,
                     mask={"policy": "detector", "detector": "world", "on_empty": "skip"})
WORLD["oft"]["forms"] = {**ODD["oft"]["forms"], "step": "corrected"}


def yaml(value, indent=""):
    """Block style; numbers, texts and lists of them."""
    lines = []
    for k, v in value.items():
        if isinstance(v, dict):
            lines += [f"{indent}{k}:", *yaml(v, indent + "  ")]
        else:
            text = "[" + ", ".join(str(x) for x in v) + "]" if isinstance(v, list) else str(v).lower() if isinstance(v, bool) else str(v)
            lines.append(f"{indent}{k}: {text}")
    return lines
