package configs

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// blockRange is a block of a list, or a range of them: KIND.FIRST-LAST.
var blockRange = regexp.MustCompile(`^[a-z_]+\.(\d{1,6})(?:-(\d{1,6}))?$`)

// check holds the forms of the entries of lists. Whether a name is one of the model's is found when the model is open.
func (l LoRA) check(ps *problems) {
	for _, name := range l.Exclude {
		if name == "" {
			ps.add("lora.exclude", "", "name modules as in lora.targets", "an entry is empty")
		}
	}
	for _, text := range l.Blocks {
		const cure = "write transformer_blocks.0-18 or single_transformer_blocks.20-37"
		m := blockRange.FindStringSubmatch(text)
		if m == nil {
			ps.add("lora.blocks", "", cure, "%q is no range of blocks", text)
			continue
		}
		first, _ := strconv.Atoi(m[1])
		if last, err := strconv.Atoi(m[2]); err == nil && last < first {
			ps.add("lora.blocks", "", cure, "%q ends before it begins", text)
		}
	}
	checkPatterns("lora.rank_pattern", "write PATTERN=RANK, such as attn.to_q=32", l.RankPattern, true, ps)
	checkPatterns("lora.alpha_pattern", "write PATTERN=ALPHA, such as attn.to_q=8", l.AlphaPattern, false, ps)
}

func checkPatterns(path, cure string, list []string, whole bool, ps *problems) {
	for _, text := range list {
		at := strings.LastIndexByte(text, '=')
		value, err := strconv.ParseFloat(strings.TrimSpace(text[at+1:]), 64)
		if at < 1 || err != nil || !(value > 0) || math.IsInf(value, 0) || whole && value != math.Trunc(value) {
			ps.add(path, "", cure, "%q is no pattern with its number", text)
		}
	}
}
