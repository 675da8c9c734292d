package world

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"math"
	"testing"

	"github.com/sciflux/sciflux/dataset"
	"github.com/stretchr/testify/require"
)

func decode(b []byte) (image.Image, error) { return png.Decode(bytes.NewReader(b)) }

type combo struct{ task, subject, scene string }

func combosOf(ts []Tuple) map[combo]bool {
	out := map[combo]bool{}
	for _, t := range ts {
		out[combo{t.Task, t.Subject, t.Scene}] = true
	}
	return out
}

// TestValidationIsApart: settings are chosen on combinations that are neither trained on nor tested, of every task.
func TestValidationIsApart(t *testing.T) {
	apart := map[combo]bool{}
	for _, split := range []string{Train, TestS, TestC} {
		for k := range combosOf(Tuples(split, 1, 0)) {
			apart[k] = true
		}
	}
	trained := map[string]bool{}
	for k := range combosOf(Tuples(Train, 1, 0)) {
		trained[k.scene] = true
	}
	perTask := map[string]int{}
	for k := range combosOf(Tuples(Validation, 1, 0)) {
		require.False(t, apart[k], k)
		require.False(t, trained[k.scene], k)
		perTask[k.task]++
	}
	for i := range tasks {
		require.GreaterOrEqual(t, perTask[tasks[i].abbr], 18, tasks[i].abbr)
	}
}

func TestSplitsHoldOut(t *testing.T) {
	pre, train := combosOf(Tuples(Pretrain, 1, 0)), combosOf(Tuples(Train, 1, 0))
	s, c := combosOf(Tuples(TestS, 1, 0)), combosOf(Tuples(TestC, 1, 0))
	require.GreaterOrEqual(t, len(s), 136)
	require.GreaterOrEqual(t, len(c), 136)
	total := 0
	for i := range tasks {
		total += len(tasks[i].subjects) * len(scenes)
	}
	require.Equal(t, total, len(pre)+len(s)+len(c))
	trained := map[string]bool{}
	subjects := map[[2]string]bool{}
	for k := range train {
		require.True(t, pre[k])
		trained[k.scene] = true
		subjects[[2]string{k.task, k.subject}] = true
	}
	perTask := map[string]int{}
	for _, test := range []map[combo]bool{s, c} {
		for k := range test {
			require.False(t, pre[k], k)
			require.False(t, trained[k.scene], k)
			task, _ := taskNamed(k.task)
			require.Equal(t, task.bySubject, subjects[[2]string{k.task, k.subject}], k)
			perTask[k.task]++
		}
	}
	for i := range tasks {
		require.GreaterOrEqual(t, perTask[tasks[i].abbr], 18, tasks[i].abbr)
	}
	for k := range s {
		require.False(t, Tuple{Task: k.task, Subject: k.subject, Scene: k.scene}.Complex())
	}
	for k := range c {
		require.True(t, Tuple{Task: k.task, Subject: k.subject, Scene: k.scene}.Complex())
	}
	require.Nil(t, Tuples("test_X", 1, 0))
}

func TestRowsAreBalancedAndKeyed(t *testing.T) {
	ts := Tuples(Train, 5, 160)
	count, poses := map[string]int{}, map[uint64]bool{}
	for _, u := range ts {
		count[u.Task]++
		poses[u.Pose] = true
	}
	require.Len(t, count, 16)
	for k, n := range count {
		require.Equal(t, 10, n, k)
	}
	require.Len(t, poses, 160)
	require.NotContains(t, poses, uint64(0))
	require.Equal(t, ts, Tuples(Train, 5, 160))
	require.Equal(t, ts[:48], Tuples(Train, 5, 48))
	require.NotEqual(t, ts, Tuples(Train, 6, 160))
	require.Len(t, Tuples(Train, 1, 4000), 4000)
}

func TestStreamsAreIndependent(t *testing.T) {
	a, b := newStream(1, "pose"), newStream(1, "place")
	mean, same := 0.0, 0
	for range 4096 {
		x, y := a.float(), b.float()
		require.True(t, x >= 0 && x < 1)
		mean += x
		if math.Abs(x-y) < 1e-3 {
			same++
		}
	}
	require.InDelta(t, 0.5, mean/4096, 0.02)
	require.Less(t, same, 24)
	seen := map[int]bool{}
	for _, i := range newStream(3, "order").order(50) {
		seen[i] = true
	}
	require.Len(t, seen, 50)
}

func TestExportReadsBack(t *testing.T) {
	if testing.Short() {
		t.Skip("draws the test splits")
	}
	dir := t.TempDir()
	opts := ExportOptions{Seed: 9, Pretrain: 50, Train: 40, Shard: 16}
	require.NoError(t, Export(context.Background(), dir, opts))
	splits, err := dataset.Splits(dir)
	require.NoError(t, err)
	require.Equal(t, []string{Pretrain, TestC, TestS, Train, Validation}, splits)
	for split, rows := range map[string]int{Pretrain: 25, Train: 40} {
		set, err := dataset.Open(dir, split)
		require.NoError(t, err)
		require.Equal(t, rows, set.Len())
		require.NoError(t, set.Check(context.Background(), dataset.Needs{Explicit: true, Superficial: true, Object: true}))
		checkRows(t, set, Tuples(split, 9, rows))
	}
	set, err := dataset.Open(dir, TestC)
	require.NoError(t, err)
	checkRows(t, set, Tuples(TestC, 9, 0))
	require.True(t, set.Has("real_scoring"))

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, Export(cancelled, t.TempDir(), opts), context.Canceled)
}

func checkRows(t *testing.T, set *dataset.Set, want []Tuple) {
	t.Helper()
	require.Equal(t, len(want), set.Len())
	for i, u := range want {
		r, err := set.Row(i)
		require.NoError(t, err)
		got, ok := FromRow(r)
		require.True(t, ok)
		require.Equal(t, u, got)
		im, err := r.ExplicitImages.List[0].Decode(context.Background())
		require.NoError(t, err)
		p, err := FromImage(im.Image())
		require.NoError(t, err)
		require.Equal(t, u.Draw(true, 64), p)
		require.Equal(t, u.Law(), r.Law())
		b := u.Box()
		require.Equal(t, []float64{b.CX, b.CY, b.W, b.H}, r.Floats["box"])
		require.Subset(t, u.Prompts().Explicit, r.Explicit.Wordings())
	}
}

func TestRowsOfOtherDataSets(t *testing.T) {
	_, ok := FromRow(dataset.Row{Cells: map[string]dataset.Cell{"task": {Value: "RI", Valid: true}}})
	require.False(t, ok)
}
