package pipeline

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/weights"
)

func TestTextMemoryForgetsWhatWasNotUsed(t *testing.T) {
	c := newTextMemory(100)
	entry := encoded{text: make([]float32, 9), pooled: make([]float32, 1)} // 40 bytes
	has := func(prompt string, length int) bool { return c.has(textKey{prompt, length}) }
	c.put(textKey{"a", 1}, entry)
	c.put(textKey{"b", 1}, entry)
	c.put(textKey{"a", 1}, entry)
	if _, ok := c.get(textKey{"a", 1}); !ok || has("b", 2) {
		t.Error("a is not held, or b of another length is")
	}
	c.put(textKey{"c", 1}, entry)
	if !has("a", 1) || has("b", 1) || !has("c", 1) || c.bytes != 80 {
		t.Errorf("a %v, b %v, c %v, %d bytes: b was not used for longest", has("a", 1), has("b", 1), has("c", 1), c.bytes)
	}
	c.put(textKey{"big", 1}, encoded{text: make([]float32, 26)})
	if c.bytes != 80 || c.order.Len() != 2 || len(c.held) != 2 {
		t.Error("an entry larger than the memory pushed the others out")
	}
}

// shelf is a TextCache in memory.
type shelf struct {
	mu         sync.Mutex
	held       map[string][]byte
	gets, puts int
}

func (s *shelf) Has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[key] != nil
}

func (s *shelf) Get(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	return s.held[key], s.held[key] != nil
}

func (s *shelf) Put(key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	s.held[key] = bytes.Clone(data)
}

func states(t *testing.T, p *Pipeline, prompts ...string) []float32 {
	t.Helper()
	text, pooled, err := p.EncodePrompts(context.Background(), prompts, 8)
	if err != nil {
		t.Fatal(err)
	}
	return append(text.Floats(), pooled.Floats()...)
}

// TestReleasedTextEncodersComeBack when a prompt is in no cache.
func TestReleasedTextEncodersComeBack(t *testing.T) {
	p := open(t, Options{TextCacheBytes: 1}) // nothing fits, so every prompt is encoded
	before := states(t, p, "snow")
	if err := p.ReleaseText(); err != nil || p.text != nil {
		t.Fatalf("%v, held: %v", err, p.text != nil)
	}
	if err := p.ReleaseText(); err != nil {
		t.Fatalf("again: %v", err)
	}
	if !slices.Equal(before, states(t, p, "snow")) || p.text == nil {
		t.Error("the encoders changed, or did not come back")
	}
}

// TestPreparedTextNeedsNoEncoders: after PrepareText every prompt is served from the caches, bit by bit as it was encoded,
// also by another process; only a new prompt brings the encoders back.
func TestPreparedTextNeedsNoEncoders(t *testing.T) {
	ctx := context.Background()
	prompts := []string{"snow", "rust", "snow", "", "an unripe apple"}
	want := states(t, open(t, Options{}), prompts...)
	cache := &shelf{held: map[string][]byte{}}
	for name, o := range map[string]Options{"memory": {}, "cache": {Texts: cache, TextCacheBytes: 1}} {
		p := open(t, o)
		var heard []int
		if err := p.PrepareText(ctx, prompts, 8, func(done, total int) { heard = append(heard, done, total) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(heard, []int{1, 4, 2, 4, 3, 4, 4, 4}) {
			t.Errorf("%s: progress %v", name, heard)
		}
		if !slices.Equal(states(t, p, prompts...), want) || p.text != nil {
			t.Errorf("%s: other numbers, or the encoders are back: %v", name, p.text != nil)
		}
		if states(t, p, "ice"); p.text == nil {
			t.Errorf("%s: a new prompt was not encoded", name)
		}
	}
	puts := cache.puts
	later := open(t, Options{Texts: cache})
	if err := later.PrepareText(ctx, prompts, 8, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(states(t, later, prompts...), want) || cache.puts != puts || later.text != nil {
		t.Errorf("another process encoded %d prompts again", cache.puts-puts)
	}
	gets := cache.gets
	if states(t, later, prompts...); cache.gets != gets {
		t.Error("memory in front of the cache is not asked")
	}
}

// TestTextThatDoesNotFitIsNotPrepared: without a cache beyond memory the encoders stay for what memory cannot hold.
func TestTextThatDoesNotFitIsNotPrepared(t *testing.T) {
	p := open(t, Options{TextCacheBytes: 1})
	states(t, p, "snow")
	if err := p.PrepareText(context.Background(), []string{"snow"}, 8, nil); err != nil || p.text == nil {
		t.Errorf("%v, encoders held: %v", err, p.text != nil)
	}
}

// TestKeysOfText: an entry is found again under the same conditions only, and a damaged one is encoded again.
func TestKeysOfText(t *testing.T) {
	cache := &shelf{held: map[string][]byte{}}
	want := states(t, open(t, Options{Texts: cache}), "snow")
	key := slices.Collect(maps.Keys(cache.held))[0]
	if len(key) != 64 || strings.Trim(key, "0123456789abcdef") != "" {
		t.Errorf("key %q", key)
	}
	for name, spoilt := range map[string][]byte{"cut": cache.held[key][:40], "empty": {}, "other": []byte("{}")} {
		cache.held[key] = spoilt
		for range 2 { // encoded again, and read
			if !slices.Equal(states(t, open(t, Options{Texts: cache}), "snow"), want) {
				t.Errorf("%s: other numbers", name)
			}
		}
	}
	entries := func() int { return len(cache.held) }
	if entries() != 1 {
		t.Fatalf("%d entries for one prompt", entries())
	}
	states(t, open(t, Options{Texts: cache, Storage: weights.BFloat16}), "snow")
	if entries() != 2 {
		t.Error("another storage finds the same entry")
	}
	p := open(t, Options{Texts: cache})
	if _, _, err := p.EncodePrompts(context.Background(), []string{"snow"}, 9); err != nil || entries() != 3 {
		t.Errorf("another length finds the same entry: %v", err)
	}
	for i, file := range []string{"tokenizer_2/tokenizer_config.json", "tokenizer/merges.txt", "text_encoder/config.json",
		"text_encoder_2/config.json"} {
		dir := copyFolder(t)
		appendTo(t, filepath.Join(dir, file), "\n")
		q, err := Open(dir, reference.New(), Options{Texts: cache})
		if err != nil {
			t.Fatal(err)
		}
		if states(t, q, "snow"); entries() != 4+i {
			t.Errorf("another %s finds the same entry", file)
		}
		q.Close()
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(data, text...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReleaseWaitsForPromptsInWork: encoders are never taken away under a prompt.
func TestReleaseWaitsForPromptsInWork(t *testing.T) {
	p := open(t, Options{TextCacheBytes: 1})
	want := states(t, p, "snow")
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 5 {
				if !slices.Equal(states(t, p, "snow"), want) {
					t.Error("other numbers")
				}
			}
		})
		wait.Go(func() {
			for range 20 {
				if err := p.ReleaseText(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// TestTruncated counts prompts beyond either tokenizer, equal ones once, without loading an encoder.
func TestTruncated(t *testing.T) {
	p := open(t, Options{})
	long, longer := strings.Repeat("rust ", 20), strings.Repeat("rust ", 200)
	got, err := p.Truncated([]string{"snow", long, longer, longer}, 12)
	if err != nil || got != (Truncation{Prompts: 3, CLIP: 1, T5: 2, MaxLen: 12}) || !got.Any() || p.text != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if text := got.String(); !strings.Contains(text, "2 of 3 prompts are longer than the 12 tokens") || !strings.Contains(text,
		"1 longer than CLIP's 77") {
		t.Error(text)
	}
	if got, err := p.Truncated([]string{"snow"}, 512); err != nil || got.Any() {
		t.Errorf("a short prompt: %+v, %v", got, err)
	}
	// A prompt of exactly as many tokens is whole.
	w, err := p.tokenizers()
	if err != nil {
		t.Fatal(err)
	}
	n := len(w.t5.Encode(long, 0))
	if got, err := p.Truncated([]string{long}, n); err != nil || got.T5 != 0 {
		t.Errorf("%d of %d tokens: %+v, %v", n, n, got, err)
	}
}

// TestIdentity: it holds still, differs when any file that is read differs, and does not see others.
func TestIdentity(t *testing.T) {
	ctx := context.Background()
	dir := copyFolder(t)
	name := func() string {
		t.Helper()
		id, err := Identity(ctx, dir, weights.IdentityOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	seen := map[string]string{name(): "as it was"}
	for _, other := range []string{"README.md", "picture.png", "my_lora.safetensors", "transformer/LICENSE"} {
		writeAny(t, filepath.Join(dir, other))
		if seen[name()] == "" {
			t.Errorf("%s changes the identity", other)
		}
	}
	for _, file := range []string{"model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json",
		"tokenizer_2/tokenizer.json", "transformer/config.json", "vae/config.json"} {
		appendTo(t, filepath.Join(dir, file), " ")
		if before := seen[name()]; before != "" {
			t.Errorf("another %s has the identity of %s", file, before)
		}
		seen[name()] = file
	}
	files, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	weightFiles := 0
	for _, path := range files {
		if filepath.Ext(path) != ".safetensors" {
			continue
		}
		weightFiles++
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if before := seen[name()]; before != "" {
			t.Errorf("one bit of %s: the identity of %s", path, before)
		}
		seen[name()] = path
	}
	if weightFiles < 4 {
		t.Errorf("only %d files of weights among %q", weightFiles, files)
	}
	if _, err := Identity(ctx, t.TempDir(), weights.IdentityOptions{}); err == nil {
		t.Error("an empty folder has an identity")
	}
}

func writeAny(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSingleFilesAreExplained: a file instead of a folder is refused with what to do.
func TestSingleFilesAreExplained(t *testing.T) {
	dir := copyFolder(t)
	inside := filepath.Join(dir, "flux1-dev.safetensors")
	alone := filepath.Join(t.TempDir(), "flux1-dev.safetensors")
	for path, says := range map[string]string{inside: "this is one file of the pipeline in " + dir,
		alone: "put it into a folder with model_index.json", filepath.Join(dir, "gone"): "no such file"} {
		if !strings.Contains(path, "gone") {
			writeAny(t, path)
		}
		if _, err := Open(path, reference.New(), Options{}); err == nil || !strings.Contains(err.Error(), says) ||
			!strings.Contains(err.Error(), "; give a folder in diffusers layout, with model_index.json") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestNotesOfParts: converted weights are told with their part.
func TestNotesOfParts(t *testing.T) {
	p := open(t, Options{})
	p.VAE.Notes = []string{"3 tensors of F64 are rounded to float32"}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	if notes := p.Notes(); !slices.Contains(notes, "vae: 3 tensors of F64 are rounded to float32") {
		t.Errorf("%q", notes)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.PrepareText(ctx, []string{"snow"}, 8, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
