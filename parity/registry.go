package parity

// runners says who computes the outputs of each kind. One line per kind; its runner lies in a file of its own.
var runners = map[string]Runner{
	"safetensors_file": runTensorFile,
	"bad_file":         runBadFile,

	"flux_transformer": runFluxTransformer,
	"flux_lora":        runFluxLoRA,
	"lora_file":        runLoRAFile,
	"lora_merge":       runLoRAMerge,
	"latent_pack":      runLatentPack,
	"lora_targets":     runLoRATargets,

	"benchmark": runBenchmark,
	"dataset":   runDataset,
	"metrics":   runMetrics,

	"flow_schedule":      runSchedule,
	"flow_training_grid": runTrainingGrid,
	"timestep_density":   runDensity,
	"flow_step":          runStep,
	"dpo_loss":           runPairLoss,
	"rollout":            runRollout,
	"sft_step":           runSFTStep,
	"oft_step":           runOFTStep,
	"dpo_velocity_grad":  runVelocityGradient,

	"dpo_flow_grad":    runMatching(pairFlowOf),
	"dgpo_grad":        runMatching(groupFlowOf),
	"nft_grad":         runMatching(nftOf),
	"awm_grad":         runMatching(awmOf),
	"reward_transform": runAdvantages,
	"old_policy":       runOldPolicy,
	"train_times":      runTrainTimes,
	"noise_window":     runWindow,
	"cps_step":         runCPSStep,
	"sde_dpo_grad":     runTrust,
	"rollout_window":   runRolloutWindow,
	"stage2_step":      runRound,

	"image_preprocess": runImagePreprocess,
	"image_resize":     runImageResize,
	"tokenize":         runTokenize,

	"vae":             runVAE,
	"t5_encoder":      runT5,
	"clip_text":       runCLIPText,
	"prompt_encode":   runPromptEncode,
	"generate":        runGenerate,
	"mask_box":        runMaskBox,
	"reward_schedule": runRewardSchedule,
	"sciscore":        runSciScore,
}
