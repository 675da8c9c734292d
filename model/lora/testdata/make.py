"""Adapters as diffusers and peft save them, with the weight changes that peft computes from them.

Run with diffusers, peft and torch installed: python make.py. Written by diffusers 0.42.1, peft 0.21.2.
"""
import pathlib

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
torch.manual_seed(1)
config = dict(
    r=3, lora_alpha=5, use_rslora=True, init_lora_weights=False, target_modules=["to_q", "to_k", "proj_mlp", "norm_out.linear"],
    rank_pattern={r"^(?!single_).*to_q": 2, "proj_mlp": 1}, alpha_pattern={r"single_transformer_blocks\.0\..*to_[kq]": 1.2},
)


def flux():
    return FluxTransformer2DModel(num_layers=1, num_single_layers=1, attention_head_dim=4, num_attention_heads=2, in_channels=4,
                                  joint_attention_dim=6, pooled_projection_dim=6, axes_dims_rope=(0, 2, 2))


def changes(model):
    return {n.removeprefix("base_model.model."): m.get_delta_weight("default").contiguous()
            for n, m in model.named_modules() if hasattr(m, "get_delta_weight")}


model = flux()
model.add_adapter(LoraConfig(**config))
FluxPipeline.save_lora_weights(here / "diffusers", transformer_lora_layers=get_peft_model_state_dict(model),
                               transformer_lora_adapter_metadata=model.peft_config["default"].to_dict() | {"target_modules": config["target_modules"]})
save_file(changes(model), here / "diffusers.safetensors")

model = get_peft_model(flux(), LoraConfig(**config))
model.save_pretrained(here / "peft")
save_file(changes(model), here / "peft.safetensors")
(here / "peft" / "README.md").unlink(missing_ok=True)
