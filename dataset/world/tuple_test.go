package world

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSixteenTasksAndTheirFields(t *testing.T) {
	fields := map[string]string{}
	bySubject := 0
	for i := range tasks {
		k := &tasks[i]
		fields[k.category] += k.abbr + " "
		if k.bySubject {
			bySubject++
		}
		require.GreaterOrEqual(t, len(k.subjects), 9, k.abbr)
		require.Len(t, k.ip, 3, k.abbr)
		require.Len(t, k.first, 3, k.abbr)
		require.Len(t, k.second, 3, k.abbr)
	}
	require.Equal(t, 6, bySubject)
	require.Equal(t, map[string]string{
		"biology": "RI SC LR WR ", "chemistry": "RU FR IM ", "physics": "BU EL ME GR SO AB DI EV LI ",
	}, fields)
}

// TestPicturesDifferInsideTheBoxOnly holds for every task, subject and many scenes and poses.
func TestPicturesDifferInsideTheBoxOnly(t *testing.T) {
	for _, side := range []int{64, 96} {
		for _, u := range Tuples(Pretrain, 3, 176) {
			a, b, box := u.Draw(true, side), u.Draw(false, side), u.Box()
			n := float64(side)
			x0, x1 := (box.CX-box.W/2)*n, (box.CX+box.W/2)*n
			y0, y1 := (box.CY-box.H/2)*n, (box.CY+box.H/2)*n
			inside := 0
			for i := range side * side {
				d := distance(a.Pix[i*3:i*3+3], b.Pix[i*3:i*3+3])
				x, y := float64(i%side), float64(i/side)
				if d > 0 && (x+1 <= x0 || x >= x1 || y+1 <= y0 || y >= y1) {
					t.Fatalf("%s differs at %v,%v outside %+v", u.ID(), x, y, box)
				}
				inside += d
			}
			if mean := float64(inside) / (3 * box.W * box.H * n * n); mean < 7 {
				t.Errorf("%s: the two pictures differ by %.1f grey levels in the box; a person must see it", u.ID(), mean)
			}
			require.Less(t, box.W*box.H, 0.6, u.ID())
			require.GreaterOrEqual(t, x0, 0.0)
			require.LessOrEqual(t, y1, n)
		}
	}
}

func TestPrompts(t *testing.T) {
	words := Vocabulary()
	require.LessOrEqual(t, len(words), 350)
	require.True(t, slices.IsSorted(words))
	for _, w := range words {
		require.Equal(t, strings.ToLower(w), w)
	}
	for _, split := range []string{Pretrain, TestS, TestC} {
		for _, u := range Tuples(split, 1, 0) {
			p := u.Prompts()
			for kind, lines := range [][]string{p.Implicit, p.Explicit, p.Superficial} {
				for _, line := range lines {
					require.LessOrEqual(t, len(strings.Fields(line)), 16, line)
					require.True(t, strings.HasSuffix(line, u.Scene), line)
					require.NotContains(t, line, "{", line)
					if kind == 0 {
						require.Contains(t, line, u.Noun())
					}
				}
			}
		}
	}
}

// TestImplicitPromptsDoNotTell holds the words that describe an outcome and no condition out of the implicit prompts.
func TestImplicitPromptsDoNotTell(t *testing.T) {
	telling := map[string][]string{
		"RI": {"green", "red", "yellow"}, "RU": {"rusty", "rust", "brown", "shiny"}, "FR": {"flame", "green", "orange"}, "BU": {"floating", "sunken", "bottom", "surface"},
		"SC": {"bare", "snow", "leaves", "green"}, "EL": {"dark", "off", "unlit", "bright", "glow"}, "ME": {"melted", "puddle", "solid", "liquid"}, "GR": {"hovering", "air", "ground"},
		"SO": {"frozen", "ice", "solid", "liquid"}, "AB": {"wet", "soaked", "drops", "puddles"}, "DI": {"tinted", "spread", "blob"}, "EV": {"empty", "dry", "full"},
		"LI": {"droplets", "wet", "dew", "dry"}, "IM": {"layer", "layers", "blend", "uniform"}, "LR": {"pale", "yellow", "green"}, "WR": {"wilted", "brown", "drooping", "upright"},
	}
	for i := range tasks {
		k := &tasks[i]
		for _, s := range k.subjects {
			if s.name == "orange" {
				continue // the fruit bears the name of its colour
			}
			for _, line := range (Tuple{Task: k.abbr, Subject: s.name, Scene: "in a kitchen"}).Prompts().Implicit {
				for _, w := range strings.Fields(line) {
					require.NotContains(t, telling[k.abbr], w, line)
				}
			}
		}
	}
}

func TestArticles(t *testing.T) {
	s := subject{name: "apple", word: "orange"}
	require.Equal(t, "an apple of an orange tree in a uniform", word("a {n} of a {w} tree in a uniform", s))
}

func TestBySubjectTasksSwapOutcomes(t *testing.T) {
	stone := Tuple{Task: "BU", Subject: "stone", Scene: "in a kitchen"}
	cork := Tuple{Task: "BU", Subject: "cork", Scene: "in a kitchen"}
	require.Contains(t, stone.Prompts().Explicit[0], "lying on the bottom")
	require.Contains(t, stone.Prompts().Superficial[0], "floating on top")
	require.Contains(t, cork.Prompts().Explicit[0], "floating on top")
	require.Equal(t, "buoyancy", cork.Law())
	require.Equal(t, "physics", cork.Category())
	require.True(t, cork.Complex())
}

func TestUnknownNames(t *testing.T) {
	for _, c := range []struct {
		t    Tuple
		want string
	}{
		{Tuple{Task: "XX"}, `unknown task "XX"`},
		{Tuple{Task: "RI", Subject: "stone"}, `task RI has no subject "stone"`},
		{Tuple{Task: "RI", Subject: "apple", Scene: "on the moon"}, `unknown scene "on the moon"`},
	} {
		require.ErrorContains(t, c.t.Validate(), c.want)
		require.Panics(t, func() { c.t.Prompts() })
		_, err := NewJudge().Judge(Picture{}, c.t)
		require.ErrorContains(t, err, c.want)
	}
}

// TestDrawingIsFixed guards the pictures that the committed models were trained on: any change of the drawing shows here.
// Other machines may fuse multiply and add, which moves edges by a rounding.
func TestDrawingIsFixed(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the stored digest is of amd64 arithmetic")
	}
	h := sha256.New()
	for _, u := range Tuples(Pretrain, 1, 320) {
		for _, right := range []bool{true, false} {
			h.Write(u.Draw(right, 64).Pix)
		}
	}
	require.Equal(t, "4e944830b1b38e2e8a5b92eeb6b9a257", hex.EncodeToString(h.Sum(nil))[:32])
}

func TestDrawIsRepeatableAndPosed(t *testing.T) {
	u := Tuple{Task: "GR", Subject: "clock", Scene: "in a desert", Pose: 7}
	require.Equal(t, u.Draw(true, 64), u.Draw(true, 64))
	v := u
	v.Pose = 8
	require.NotEqual(t, u.Draw(true, 64).Pix, v.Draw(true, 64).Pix)
	b, err := json.Marshal(u)
	require.NoError(t, err)
	var back Tuple
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, u, back)
}

func TestPictureForms(t *testing.T) {
	p := Tuple{Task: "RI", Subject: "apple", Scene: "in a kitchen", Pose: 5}.Draw(true, 64)
	n := 64 * 64
	hwc, chw := make([]float32, 3*n), make([]float32, 3*n)
	for i, v := range p.Pix {
		hwc[i] = float32(v) / 255
		chw[i%3*n+i/3] = float32(v) / 255
	}
	require.Equal(t, p, FromFloat(hwc, 64))
	require.Equal(t, p, FromPlanes(chw, 64))
	nan := float32(0)
	nan /= nan
	require.Equal(t, []uint8{0, 0, 255}, FromFloat([]float32{nan, -1, 2}, 1).Pix)
	b, err := p.PNG()
	require.NoError(t, err)
	im, err := decode(b)
	require.NoError(t, err)
	back, err := FromImage(im)
	require.NoError(t, err)
	require.True(t, bytes.Equal(p.Pix, back.Pix))
}
