package report

import (
	"fmt"

	"github.com/sciflux/sciflux/run"
)

// Findings are the sentences at the top of the report.
func Findings(results []run.EvalResult) []Finding {
	var out []Finding
	byKey := map[string]run.EvalResult{}
	var splits []string
	for _, r := range results {
		if r.Variant == run.VariantBase {
			splits = append(splits, r.Split)
		}
		byKey[r.Split+string(r.Variant)] = r
	}
	say := func(good bool, format string, args ...any) {
		out = append(out, Finding{Text: fmt.Sprintf(format, args...), Good: good})
	}
	for _, split := range splits {
		base, sft, oft := byKey[split+string(run.VariantBase)], byKey[split+string(run.VariantSFT)], byKey[split+string(run.VariantOFT)]
		if sft.Tuples > 0 {
			say(sft.RI > 0, "%s: SFT closes %.0f %% of the gap between implicit and explicit prompts (RI).", split, 100*sft.RI)
		}
		if oft.Tuples > 0 {
			say(oft.RIGain.Low > 0, "%s: OFT brings RI to %.0f %%, %+.1f points over SFT (95 %% interval %+.1f to %+.1f).", split, 100*oft.RI, 100*oft.RIGain.Mean, 100*oft.RIGain.Low, 100*oft.RIGain.High)
			say(oft.JudgeIP > base.JudgeIP, "%s: the judge finds %.0f %% of pictures from implicit prompts right after OFT, %.0f %% before, %.0f %% after SFT.", split, 100*oft.JudgeIP, 100*base.JudgeIP, 100*sft.JudgeIP)
			say(oft.JudgeEP >= base.JudgeEP-0.05, "%s: explicit prompts stay at %.0f %% right (%.0f %% before).", split, 100*oft.JudgeEP, 100*base.JudgeEP)
		}
		if longer := byKey[split+string(run.VariantLonger)]; longer.Tuples > 0 && oft.Tuples > 0 {
			say(oft.RI >= longer.RI, "%s: SFT given OFT's time instead reaches RI %.0f %% and %.0f %% right; OFT %.0f %% and %.0f %%.", split, 100*longer.RI, 100*longer.JudgeIP, 100*oft.RI, 100*oft.JudgeIP)
		}
	}
	return out
}
