package run

// EvalResult holds the numbers of one variant on one split. Scores are SciScore means against the implicit prompt of
// each tuple; rates are shares in 0..1 by the ground-truth judge.
type EvalResult struct {
	Split    string  `json:"split"` // test_S or test_C
	Variant  Variant `json:"variant"`
	Tuples   int     `json:"tuples"`
	Pictures int     `json:"pictures"` // per prompt
	SP       float64 `json:"sp"`
	EP       float64 `json:"ep"`
	IP       float64 `json:"ip"`
	ND       float64 `json:"nd"` // (IP−SP)/(EP−SP); 0 when EP equals SP
	RI       float64 `json:"ri"` // (IP−base IP)/(base EP−base IP); 0 for the base
	JudgeIP  float64 `json:"judge_ip"`
	JudgeEP  float64 `json:"judge_ep"`
	JudgeSP  float64 `json:"judge_sp"` // share of superficial-prompt pictures judged right
	Outside  float64 `json:"outside"`  // mean absolute change outside the subject's box against the base's picture of the same noise, grey levels
	// RIGain is RI minus the SFT variant's RI with its paired bootstrap 95 % interval; zero for base and SFT.
	RIGain Interval `json:"ri_gain,omitzero"`
}

// Interval is an estimate with its 95 % interval.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// QuickEval is one evaluation during training: few prompts, always the same ones and the same noises.
type QuickEval struct {
	Stage   Stage   `json:"stage"`
	Step    int     `json:"step"`
	Epoch   int     `json:"epoch,omitempty"`
	IP      float64 `json:"ip"`       // SciScore mean of implicit-prompt pictures
	JudgeIP float64 `json:"judge_ip"` // share judged right; 0 where there is no judge
}

// Metrics arranges results as split → variant → numbers, the shape of `show --json`.
func Metrics(results []EvalResult) map[string]map[Variant]EvalResult {
	out := map[string]map[Variant]EvalResult{}
	for _, r := range results {
		if out[r.Split] == nil {
			out[r.Split] = map[Variant]EvalResult{}
		}
		out[r.Split][r.Variant] = r
	}
	return out
}
