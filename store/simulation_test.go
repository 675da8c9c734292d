package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// A simulation of the commit protocol in virtual time. A world holds the objects and knows what must never happen to them.
// Actors (attempts that train the same stage, a pruner, readers) see it through views that delay, lose, repeat and
// misplace their requests, and that can die. Everything that happens follows from the number of the schedule.

// version is one object as the world holds it.
type version struct {
	data []byte
	tag  string
	at   time.Time
}

// listed is the object as answers describe it.
func (v version) listed(key string) store.Object {
	return store.Object{Key: key, Size: int64(len(v.data)), ETag: v.tag, Modified: v.at}
}

// listing is the state of the keys at a time, for lists that are stale.
type listing struct {
	at      time.Time
	objects map[string]version
}

// world is the true store.
type world struct {
	mu         sync.Mutex
	objects    map[string]version
	past       []listing
	writes     int
	committed  map[int]string // steps whose manifest was ever written, with its bytes' hash
	pruned     map[int]bool
	pointer    int // step of latest.json
	violation  error
	careless   bool // conditions are ignored: a service that must not be used
	forgetsCAS bool // If-Match alone is ignored
}

const (
	simKeepLast = 2
	simOrphans  = 2 * time.Hour    // far longer than an attempt
	simStale    = 10 * time.Minute // how old a list may be
	simPrefix   = "runs/r/checkpoints/sft/"
)

func newWorld() *world {
	return &world{objects: map[string]version{}, committed: map[int]string{}, pruned: map[int]bool{}}
}

func (w *world) violate(format string, args ...any) {
	if w.violation == nil {
		w.violation = fmt.Errorf(format, args...)
	}
}

// put writes under the lock of a request; condition is "", "*" or a tag.
func (w *world) put(key string, data []byte, condition string) (store.Object, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old, there := w.objects[key]
	honoured := !w.careless && (!w.forgetsCAS || condition == "*")
	if honoured && (condition == "*" && there || condition != "" && condition != "*" && (!there || old.tag != condition)) {
		return store.Object{}, store.Fail("write", key, store.ErrPrecondition, nil)
	}
	switch {
	case strings.HasSuffix(key, "/manifest.json"):
		w.judgeManifest(key, data, there)
	case strings.HasSuffix(key, "/latest.json"):
		w.judgePointer(data)
	}
	w.remember()
	w.writes++
	v := version{data: data, tag: fmt.Sprint(w.writes), at: time.Now()}
	w.objects[key] = v
	return store.Object{Key: key, Size: int64(len(data)), ETag: v.tag}, nil
}

// judgeManifest: a commit is final, and everything it names is there and whole.
func (w *world) judgeManifest(key string, data []byte, there bool) {
	var m store.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		w.violate("manifest %s: %v", key, err)
		return
	}
	if there {
		w.violate("the commit of step %d was replaced", m.Step)
	}
	for _, p := range m.Parts {
		if v, ok := w.objects[p.Object.Key]; !ok || int64(len(v.data)) != p.Object.Bytes {
			w.violate("step %d was committed without %s", m.Step, p.Object.Key)
		}
	}
	w.committed[m.Step] = m.Attempt
}

// judgePointer: it points at a commit and never goes back.
func (w *world) judgePointer(data []byte) {
	var p struct {
		Checkpoint run.CheckpointRef `json:"checkpoint"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		w.violate("pointer: %v", err)
		return
	}
	if p.Checkpoint.Step < w.pointer {
		w.violate("the pointer went from step %d back to %d", w.pointer, p.Checkpoint.Step)
	}
	if _, ok := w.committed[p.Checkpoint.Step]; !ok {
		w.violate("the pointer names step %d, which is not committed", p.Checkpoint.Step)
	}
	w.pointer = p.Checkpoint.Step
}

// remember keeps the keys of now for lists that come late.
func (w *world) remember() {
	const kept = 8
	snapshot := make(map[string]version, len(w.objects))
	for key, v := range w.objects {
		snapshot[key] = v
	}
	if w.past = append(w.past, listing{time.Now(), snapshot}); len(w.past) > kept {
		w.past = w.past[1:]
	}
}

func (w *world) delete(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, there := w.objects[key]; !there {
		return
	}
	if strings.HasSuffix(key, "/manifest.json") {
		w.judgeRemoval(key)
	} else {
		w.judgePartRemoval(key)
	}
	w.remember()
	delete(w.objects, key)
}

// judgeRemoval: only what retention gives up may go, and enough newer commits stay.
func (w *world) judgeRemoval(key string) {
	step, newer := 0, 0
	if _, err := fmt.Sscanf(path.Base(path.Dir(key)), "step-%d", &step); err != nil {
		w.violate("removed %s: %v", key, err)
	}
	for other := range w.committed {
		if other > step && !w.pruned[other] {
			newer++
		}
	}
	if newer < simKeepLast {
		w.violate("step %d was removed with %d newer ones", step, newer)
	}
	w.pruned[step] = true
}

func (w *world) judgePartRemoval(key string) {
	for other, v := range w.objects {
		if strings.HasSuffix(other, "/manifest.json") && bytes.Contains(v.data, []byte(key)) {
			w.violate("%s was removed under %s", key, other)
		}
	}
}

// view is how one actor reaches the world.
type view struct {
	*world
	seed uint64
	calm bool // nothing goes wrong

	count sync.Mutex
	calls map[string]uint64
	dead  bool
	late  *sync.WaitGroup // requests that arrive after their sender gave up
}

var errDead = errors.New("the process is dead")

// dice are those of a request: they follow from who asks what for the how many-th time.
func (v *view) dice(op, key string) *rand.Rand {
	if i := strings.Index(key, "/parts/"); i >= 0 { // the attempt's name differs from run to run
		key = path.Base(key)
	}
	v.count.Lock()
	defer v.count.Unlock()
	v.calls[op+key]++
	h := fnv.New64a()
	_, _ = io.WriteString(h, op+key)
	return rand.New(rand.NewPCG(v.seed, h.Sum64()+v.calls[op+key]<<1))
}

func unavailable(op, key string) error {
	return store.Fail(op, key, store.ErrUnavailable, errors.New("503"))
}

// request lets apply happen, or not, or later, or twice, and says what the actor hears.
func (v *view) request(ctx context.Context, op, key string, apply func() error) error {
	if v.calm {
		return apply()
	}
	r := v.dice(op, key)
	pause := func(most time.Duration) { time.Sleep(1 + time.Duration(r.Int64N(int64(most)))) }
	pause(20 * time.Second)
	v.count.Lock()
	dead := v.dead || r.IntN(60) == 0
	v.dead = dead
	v.count.Unlock()
	if dead && r.IntN(2) == 0 || ctx.Err() != nil {
		return errDead // before the request left
	}
	err := v.fated(r, op, key, apply, pause)
	if dead {
		return errDead // after it did
	}
	return err
}

func (v *view) fated(r *rand.Rand, op, key string, apply func() error, pause func(time.Duration)) error {
	writes := op == "put" || op == "delete"
	switch fate := r.IntN(40); {
	case fate == 0: // it never arrived
		return unavailable(op, key)
	case fate == 1 && writes: // it arrived and the answer was lost
		_ = apply()
		pause(time.Minute)
		return unavailable(op, key)
	case fate == 2 && writes: // the answer was lost, and the client sent it again
		_ = apply()
		pause(time.Minute)
		return apply()
	case fate == 3 && writes: // it overtakes nothing and arrives when its sender has given up
		delay := time.Duration(r.Int64N(int64(3 * time.Minute)))
		v.late.Go(func() {
			time.Sleep(delay)
			_ = apply()
		})
		return unavailable(op, key)
	}
	err := apply()
	if r.IntN(4) == 0 {
		pause(time.Minute)
	}
	return err
}

func (v *view) write(ctx context.Context, key string, body io.Reader, condition string) (out store.Object, err error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return out, err
	}
	err = v.request(ctx, "put", key, func() (err error) {
		out, err = v.put(key, data, condition)
		return err
	})
	if err != nil {
		return store.Object{}, err
	}
	return out, nil
}

func (v *view) Put(ctx context.Context, key string, body io.Reader) (store.Object, error) {
	return v.write(ctx, key, body, "")
}

func (v *view) PutIfAbsent(ctx context.Context, key string, body io.Reader) (store.Object, error) {
	return v.write(ctx, key, body, "*")
}

func (v *view) PutIfMatch(ctx context.Context, key string, body io.Reader, etag string) (store.Object, error) {
	return v.write(ctx, key, body, etag)
}

func (v *view) Head(ctx context.Context, key string) (out store.Object, err error) {
	_, out, err = v.read(ctx, "head", key)
	return out, err
}

func (v *view) Get(ctx context.Context, key string) (io.ReadCloser, store.Object, error) {
	data, out, err := v.read(ctx, "get", key)
	if err != nil {
		return nil, out, err
	}
	return io.NopCloser(bytes.NewReader(data)), out, nil
}

// read is a request for an object, of which a head leaves the data.
func (v *view) read(ctx context.Context, op, key string) (data []byte, out store.Object, err error) {
	err = v.request(ctx, op, key, func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		o, ok := v.objects[key]
		if !ok {
			return store.Fail(op, key, store.ErrNotExist, nil)
		}
		data, out = o.data, o.listed(key)
		return nil
	})
	return data, out, err
}

func (v *view) GetRange(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, errors.New("nobody asks for ranges here")
}

// List may be stale, up to simStale.
func (v *view) List(ctx context.Context, prefix string) (out []store.Object, err error) {
	err = v.request(ctx, "list", prefix, func() error {
		stale := !v.calm && v.dice("stale", prefix).IntN(3) == 0
		v.mu.Lock()
		defer v.mu.Unlock()
		objects := v.objects
		if stale {
			for _, past := range v.past {
				if time.Since(past.at) < simStale {
					objects = past.objects
					break
				}
			}
		}
		for key, o := range objects {
			if strings.HasPrefix(key, prefix) {
				out = append(out, o.listed(key))
			}
		}
		slices.SortFunc(out, func(a, b store.Object) int { return strings.Compare(a.Key, b.Key) })
		return nil
	})
	return out, err
}

func (v *view) Delete(ctx context.Context, key string) error {
	return v.request(ctx, "delete", key, func() error { v.delete(key); return nil })
}
