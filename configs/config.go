package configs

import "time"

// Config is everything a run can be told. Struct tags: yaml is the key, default the value when no layer sets it (on a
// section, "key=value" overrides the default of one of its keys), valid the bounds, enum the allowed values.
//
// changes says what another value of the key changes; Hash covers the keys that change a result and no others:
//
//   - result: the adapter, or a number that is measured of it
//   - speed: time, memory or disk space, and how much work an interruption costs
//   - place: where things are found and stored, and what they are called
//   - report: what is shown beside the results
//
// A section may say result for its keys; a key that changes none says so itself.
//
// of names the values of oft.method under which a key is read, for a section all its keys; without it, all of them. Under
// another method the key keeps its default, whatever a preset says, and giving it another value is an error.
type Config struct {
	// Preset whose values this file starts from: world, world-smoke, flux-dev or flux-dev-paper. Empty: the plain
	// defaults.
	Preset string `yaml:"preset" changes:"place"`
	// Name of the run; object keys and workflow ids begin with it. Lower-case letters, digits and, after the first, dots,
	// dashes and underscores. Empty: the preset's or the file's name, with dashes for what names do not have.
	Name string `yaml:"name" changes:"place"`
	// Root of every random number of the run: data order, noises, initial weights, drawn scenes.
	Seed uint64 `yaml:"seed" default:"1" changes:"result"`

	// The frozen model that is fine-tuned.
	Model Model `yaml:"model" changes:"result"`
	// The pictures and prompts.
	Data Data `yaml:"data" changes:"result"`
	// The adapter that is trained. With model.adapter, keys that neither a file nor a variable nor a flag gives are that
	// adapter's own (0 or empty in the resolved config).
	LoRA LoRA `yaml:"lora" changes:"result"`
	// Stage 1, supervised fine-tuning with the rectified-flow loss.
	SFT SFT `yaml:"sft" changes:"result"`
	// Stage 2, online fine-tuning: masked preference learning on the model's own pictures.
	OFT OFT `yaml:"oft" changes:"result"`
	// Rules that end or pause stage 2 when it goes wrong.
	Stop Stop `yaml:"stop" changes:"result"`
	// The measurement on held-out prompts.
	Eval Eval `yaml:"eval" changes:"result"`
	// Runs beside the main one that put its gain into proportion.
	Compare Compare `yaml:"compare" changes:"result"`
	// The scorer whose preference stage 2 follows.
	Reward Reward `yaml:"reward" changes:"result"`
	// How many checkpoints are kept.
	Checkpoint Checkpoint `yaml:"checkpoint"`
	// Where checkpoints and every other object of a run are stored.
	Store Store `yaml:"store"`
	// The Temporal service that makes the run durable.
	Temporal Temporal `yaml:"temporal"`
	// How a worker uses its machine. None of these settings changes a result.
	Worker Worker `yaml:"worker"`
}

// Model says what is fine-tuned.
type Model struct {
	// Pipeline folder in the Hugging Face layout (model_index.json, transformer, vae, text_encoder, text_encoder_2,
	// tokenizer, tokenizer_2, scheduler), or `world` for the tiny one inside the binary.
	Pipeline string `yaml:"pipeline" default:"world" valid:"nonempty"`
	// Adapter to start from: a LoRA file or folder in any of the namings that docs/formats.md lists. Empty: a fresh adapter.
	// This starts a new run from weights; an interrupted run is continued with `sciflux resume`. Keys of lora can be left
	// out then; those that are given must agree with it.
	Adapter string `yaml:"adapter"`
	// Type that the matrices of the pipeline are kept in: auto as their files have them, f32, or bf16, which halves the
	// memory of f32 files and rounds them once. Adapter and optimiser are always f32.
	DType string `yaml:"dtype" default:"auto" enum:"auto|f32|bf16"`
	// Type that the linear layers of the transformer's blocks compute in, which is nearly all of the work: bf16 rounds both
	// factors and sums in f32. auto is what the worker's machine is fastest in: bf16 on processors with AMX where oneDNN is
	// installed (sciflux doctor tells), f32 elsewhere. Give f32 or bf16 where workers on both kinds of machine share a run.
	Compute string `yaml:"compute" default:"auto" enum:"auto|f32|bf16"`
	// Length T5 prompts are padded to, in tokens; 0 takes the tokenizer's own. FLUX.1 dev 512, schnell 256.
	TextTokens int `yaml:"text_tokens" default:"0" valid:">=0"`
	// Most text and image tokens that one network call takes in rollouts, in stage 2's training and in evaluation, on every
	// machine alike: how samples are grouped decides their last bits. A sample has its text tokens and (resolution/16)² of
	// the picture; at least one goes into a call. A micro-batch or a prompt with more takes several.
	BatchTokens int `yaml:"batch_tokens" default:"16384" valid:">0"`
}

// Data says what it is trained on.
type Data struct {
	// Folder of Science-T2I parquet files (train-*.parquet, test_S-*.parquet, …; also inside data/), of webdataset archives
	// (train.tar) or of pictures with captions (train/…); docs/formats.md has them all. `world` is the procedural data set,
	// which the run draws itself.
	Source string `yaml:"source" default:"world" valid:"nonempty"`
	// Split that SFT and the prompts of OFT are taken from.
	TrainSplit string `yaml:"train_split" default:"train" valid:"nonempty"`
	// Tuples of the training split that are used, counted from its start; 0 takes all.
	TrainTuples int `yaml:"train_tuples" default:"0" valid:">=0"`
	// Side of the square training pictures in pixels; a multiple of 16 (VAE factor 8, patches of 2).
	Resolution int `yaml:"resolution" default:"64" valid:">=16"`
	// Prompt that SFT pairs with the right picture: implicit (as the authors), explicit, or both in turn.
	Captions string `yaml:"captions" default:"implicit" enum:"implicit|explicit|both"`
	// JSON list of {"prompt", "object"} pairs for OFT, as the authors use, or one pair a line. Empty: the implicit prompts
	// of the training split with their object nouns.
	Prompts string `yaml:"prompts"`
	// Picture paths in data files may lead outside the data folder. Off, such a path is an error.
	AllowOutside bool `yaml:"allow_outside" default:"false" changes:"place"`
	// Keep encoded pictures on disk, between steps and runs, instead of encoding them again; worker.cache_gb bounds them.
	CacheLatents bool `yaml:"cache_latents" default:"true" changes:"speed"`
	// Keep encoded prompts on disk, between steps and runs, so that the text encoders can leave memory; worker.cache_gb
	// bounds them.
	CacheText bool `yaml:"cache_text" default:"true" changes:"speed"`
}

// LoRA says which weights are trained.
type LoRA struct {
	// Modules that get an adapter: those whose dotted name is a target or ends with "." and a target. The word all-linear
	// stands for every linear layer that can be trained.
	Targets []string `yaml:"targets" default:"[to_k, to_q, to_v, to_out.0]" valid:"nonempty"`
	// Targeted modules that get none all the same, named as targets are.
	Exclude []string `yaml:"exclude" default:"[]"`
	// Blocks whose modules alone get an adapter, such as transformer_blocks.0-18 or single_transformer_blocks.20-37,
	// counted from 0, both ends included. Empty: all, and what lies in no block.
	Blocks []string `yaml:"blocks" default:"[]"`
	// Rank of the two factors.
	Rank int `yaml:"rank" default:"16" valid:">0"`
	// Scale of the adapter is alpha/rank.
	Alpha float64 `yaml:"alpha" default:"16" valid:">0"`
	// Make the scale alpha/√rank instead (rank-stabilised LoRA).
	RSLoRA bool `yaml:"rslora" default:"false"`
	// Ranks of some modules, PATTERN=RANK: the first pattern counts that matches the module's name, or what follows a dot
	// of it, to its end. Patterns are regular expressions as PEFT's rank_pattern has them, such as attn.to_q=32.
	RankPattern []string `yaml:"rank_pattern" default:"[]"`
	// Alphas of some modules, PATTERN=ALPHA, as PEFT's alpha_pattern.
	AlphaPattern []string `yaml:"alpha_pattern" default:"[]"`
	// Initial values of factor A: gaussian has standard deviation 1/rank (the authors), kaiming is uniform in ±1/√in.
	// Factor B starts at zero.
	Init string `yaml:"init" default:"gaussian" enum:"gaussian|kaiming"`
}

// Optim are the settings of AdamW, the same set in both stages.
type Optim struct {
	// Learning rate after warm-up.
	LR float64 `yaml:"lr" default:"2e-5" valid:">0"`
	// Steps over which the rate rises from 0: step j (from 0) has lr·min(1, j/warmup_steps).
	WarmupSteps int `yaml:"warmup_steps" default:"0" valid:">=0"`
	// Decay rates of the two moments.
	Betas [2]float64 `yaml:"betas" default:"[0.9, 0.999]" valid:">=0,<1"`
	// Added to the root of the second moment.
	Eps float64 `yaml:"eps" default:"1e-8" valid:">0"`
	// Decoupled weight decay: weights shrink by lr·weight_decay a step.
	WeightDecay float64 `yaml:"weight_decay" default:"1e-4" valid:">=0"`
	// Gradients are scaled down to this global norm; 0 leaves them.
	MaxGradNorm float64 `yaml:"max_grad_norm" default:"1" valid:">=0"`
	// Decay of an exponential moving average of the adapter, which then is what is evaluated and exported; 0: none.
	EMA float64 `yaml:"ema" default:"0" valid:">=0,<1"`
}

// SFT is stage 1.
type SFT struct {
	// Optimiser steps; 0 skips the stage.
	Steps int `yaml:"steps" default:"400" valid:">=0"`
	// Pictures of one forward pass.
	Batch int `yaml:"batch" default:"4" valid:">0"`
	// Forward passes whose gradients make one step.
	Accumulate int `yaml:"accumulate" default:"1" valid:">0"`
	Optim      `yaml:",inline"`
	// Which noise levels are trained how often.
	Density Density `yaml:"density"`
	// Weight of the loss at noise level s: none is 1, sigma_sqrt s⁻², cosmap 2/(π(1−2s+2s²)).
	Weighting string `yaml:"weighting" default:"none" enum:"none|sigma_sqrt|cosmap"`
	// Value of the guidance input of a guidance-distilled model (FLUX.1 dev) in training. The authors train with 0.
	Guidance float64 `yaml:"guidance" default:"0" valid:">=0"`
	// Steps between two checkpoints: what an interruption can cost at most.
	ChunkSteps int `yaml:"chunk_steps" default:"100" valid:">0" changes:"speed"`
}

// Density is the distribution of noise levels in SFT, over the descending training grid: large u is little noise.
type Density struct {
	// uniform, logit_normal (u = sigmoid(mean + std·z)) or mode (u = 1 − u0 − scale·(cos²(πu0/2) − 1 + u0)).
	Kind string `yaml:"kind" default:"uniform" enum:"uniform|logit_normal|mode"`
	// Mean of logit_normal.
	Mean float64 `yaml:"mean" default:"0"`
	// Standard deviation of logit_normal.
	Std float64 `yaml:"std" default:"1" valid:">0"`
	// Scale of mode.
	Scale float64 `yaml:"scale" default:"1.29"`
	// Shift of the noise levels that were drawn, σ' = a·σ/(1+(a−1)·σ), as FLUX was trained: none; dynamic, with a = exp(mu)
	// of the picture's size, as the scheduler's dynamic shifting has it at inference; or a itself, a number above 0, where
	// more than 1 means more noise.
	Shift Shift `yaml:"shift" default:"none"`
}

// Eval is the measurement at the end, and the small one during training.
type Eval struct {
	// Splits that are measured.
	Splits []string `yaml:"splits" default:"[test_S, test_C]" valid:"nonempty"`
	// Tuples of each split, spread evenly over its tasks; 0 takes all.
	Tuples int `yaml:"tuples" default:"0" valid:">=0"`
	// Pictures of each prompt; all variants get the same noises.
	Pictures int `yaml:"pictures" default:"2" valid:">0"`
	// Denoising steps.
	Steps int `yaml:"steps" default:"30" valid:">0"`
	// Value of the guidance input.
	Guidance float64 `yaml:"guidance" default:"0" valid:">=0"`
	// Noise of the sampler as in oft.s_churn; 0 is plain Euler. The authors evaluate with 0.1.
	SChurn float64 `yaml:"s_churn" default:"0" valid:">=0"`
	// Root of the evaluation noises, kept apart from the run's seed so that runs can be compared picture by picture.
	Seed uint64 `yaml:"seed" default:"1234"`
	// Resamples of the paired bootstrap intervals.
	Bootstrap int `yaml:"bootstrap" default:"2000" valid:">0"`
	// The small evaluation during training.
	During During `yaml:"during"`
}

// During is the evaluation between chunks: implicit prompts of the first split, always the same noises.
type During struct {
	// SFT steps between evaluations, rounded up to the end of a chunk; 0: none.
	EverySteps int `yaml:"every_steps" default:"0" valid:">=0" changes:"report"`
	// OFT epochs between evaluations; 0: none.
	EveryEpochs int `yaml:"every_epochs" default:"0" valid:">=0" changes:"report"`
	// Tuples.
	Tuples int `yaml:"tuples" default:"16" valid:">0" changes:"report"`
	// Pictures of each prompt.
	Pictures int `yaml:"pictures" default:"1" valid:">0" changes:"report"`
}

// Compare are extra trainings for the report.
type Compare struct {
	// Also continue SFT from its checkpoint for as long as OFT took, and evaluate that beside it. It never becomes the
	// run's adapter.
	SameTimeSFT bool `yaml:"same_time_sft" default:"false"`
}

// Reward is the scorer.
type Reward struct {
	// SciScore folder (a CLIP-H in Hugging Face layout), or `world` for the tiny one inside the binary.
	SciScore string `yaml:"sciscore" default:"world" valid:"nonempty"`
	// Pictures scored at once.
	Batch int `yaml:"batch" default:"16" valid:">0"`
}

// Checkpoint is retention. Ends of stages and the reference of stage 2 are always kept.
type Checkpoint struct {
	// Newest checkpoints of each stage that are kept.
	KeepLast int `yaml:"keep_last" default:"3" valid:">0" changes:"speed"`
}

// Store is where objects live.
type Store struct {
	// embedded: the S3 service that the binary starts itself; s3: any S3 service; disk: a folder.
	Kind string `yaml:"kind" default:"embedded" enum:"embedded|s3|disk" changes:"place"`
	// Address of the S3 service, such as https://s3.example.org. Empty with kind s3: Amazon's, by region.
	Endpoint string `yaml:"endpoint" changes:"place"`
	// Bucket.
	Bucket string `yaml:"bucket" default:"sciflux" valid:"nonempty" changes:"place"`
	// Region that requests are signed for.
	Region string `yaml:"region" default:"us-east-1" valid:"nonempty" changes:"place"`
	// Put the bucket into the path instead of the host name.
	PathStyle bool `yaml:"path_style" default:"true" changes:"place"`
	// Folder of kind disk.
	Path string `yaml:"path" changes:"place"`
	// Access key id.
	AccessKey Secret `yaml:"access_key" default:"env=AWS_ACCESS_KEY_ID"`
	// Secret access key.
	SecretKey Secret `yaml:"secret_key" default:"env=AWS_SECRET_ACCESS_KEY"`
	// Session token of temporary credentials.
	SessionToken Secret `yaml:"session_token"`
}

// Secret says where a secret is found; the secret itself is never in a config.
type Secret struct {
	// Name of the environment variable that holds it.
	Env string `yaml:"env" changes:"place"`
	// Path of the file that holds it, which then counts instead of the variable; a final newline is dropped.
	File string `yaml:"file" changes:"place"`
}

// Temporal is the workflow service.
type Temporal struct {
	// host:port. Empty: the service that the binary starts itself.
	Address string `yaml:"address" changes:"place"`
	// Namespace.
	Namespace string `yaml:"namespace" default:"sciflux" valid:"nonempty" changes:"place"`
	// Task queues are named with this prefix; workers and runs must agree on it.
	QueuePrefix string `yaml:"queue_prefix" default:"sciflux" valid:"nonempty" changes:"place"`
	// Keep stage, step and status as search attributes. They must be registered in an external namespace; `sciflux
	// doctor` prints the command.
	SearchAttributes bool `yaml:"search_attributes" default:"true" changes:"report"`
	// API key.
	APIKey Secret `yaml:"api_key"`
	// Encryption of the connection.
	TLS TLS `yaml:"tls"`
}

// TLS of the Temporal connection.
type TLS struct {
	// Use TLS. On by itself when another key of this section is set.
	Enabled bool `yaml:"enabled" default:"false" changes:"place"`
	// PEM file of the authority that signed the server's certificate; empty: the system's.
	CAFile string `yaml:"ca_file" changes:"place"`
	// PEM file of the client certificate.
	CertFile string `yaml:"cert_file" changes:"place"`
	// PEM file of the client key.
	KeyFile string `yaml:"key_file" changes:"place"`
	// Name expected in the server's certificate.
	ServerName string `yaml:"server_name" changes:"place"`
}

// Worker is how a process works.
type Worker struct {
	// Threads of the kernels; 0: all cores. Activities that work at once share them.
	Threads int `yaml:"threads" default:"0" valid:">=0" changes:"speed"`
	// What the backward pass finds in memory. full: only block inputs, the rest is recomputed; selective: norms,
	// activations and gates are recomputed; none: everything is kept.
	Memory string `yaml:"memory" default:"none" enum:"full|selective|none" changes:"speed"`
	// Shards generated, scored or evaluated at once by one process.
	Concurrency int `yaml:"concurrency" default:"1" valid:">0" changes:"speed"`
	// Parts that pair generation, scoring and evaluation are split into, for any number of workers.
	Shards int `yaml:"shards" default:"2" valid:">0" changes:"speed"`
	// A worker that is silent for this long is taken for dead and its activity is given to another one.
	HeartbeatTimeout time.Duration `yaml:"heartbeat_timeout" default:"10s" valid:">=1s" changes:"speed"`
	// A network call that takes longer than this counts as hung, and its activity is tried again: the worker reports after
	// each call. Set it well above the slowest call of the machine.
	HangAfter time.Duration `yaml:"hang_after" default:"10m" valid:">=1s" changes:"speed"`
	// Time a leaving worker has to finish its step and commit a checkpoint.
	StopGrace time.Duration `yaml:"stop_grace" default:"2m" valid:">=1s" changes:"speed"`
	// Most disk space of the caches of encoded prompts and pictures on this machine, in GB of 10⁹ bytes. All runs share them;
	// what was not used for longest makes room. 0 keeps nothing.
	CacheGB float64 `yaml:"cache_gb" default:"20" valid:">=0" changes:"speed"`
	// Most bytes of models that are kept open for runs to come, in GB of 10⁹ bytes, beside those of the run that was worked
	// on last; what was not used for longest is closed first. 0 keeps that run's alone, which is all that a sweep over one
	// model needs.
	ModelsGB float64 `yaml:"models_gb" default:"0" valid:">=0" changes:"speed"`
	// What the workers together cost an hour; the report then says what each stage cost. 0: not shown.
	PricePerHour float64 `yaml:"price_per_hour" default:"0" valid:">=0" changes:"report"`
	// Currency of the price.
	Currency string `yaml:"currency" default:"USD" changes:"report"`
}
