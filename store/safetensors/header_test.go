package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// encode makes a file from the text of a header and some data.
func encode(header string, data int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, data)...)
}

func withLength(file []byte, n uint64) []byte {
	out := bytes.Clone(file)
	binary.LittleEndian.PutUint64(out, n)
	return out
}

const (
	entryA = `"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}`
	entryB = `"b":{"dtype":"F32","shape":[10],"data_offsets":[24,64]}`
)

// headerCases are files with one fault each, or none.
var headerCases = []struct {
	name string
	file []byte
	want Class
}{
	{"good", encode("{"+entryA+","+entryB+"}", 64), ""},
	{"good with spaces", encode("{"+entryA+","+entryB+"}     ", 64), ""},
	{"good with blanks inside", encode("{ \n"+entryA+" ,\t"+entryB+" }", 64), ""},
	{"no tensor", encode("{}", 0), ""},
	{"empty in the middle", encode(`{`+entryA+`,`+entryB+`,"e":{"dtype":"F64","shape":[0,7],"data_offsets":[24,24]}}`, 64), ""},
	{"sub-byte", encode(`{"a":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]}}`, 3), ""},
	{"metadata", encode(`{"__metadata__":{"format":"pt"},`+entryA+`,`+entryB+`}`, 64), ""},

	{"empty file", nil, Truncated},
	{"five bytes", []byte{1, 2, 3, 4, 5}, Truncated},
	{"data cut", encode("{"+entryA+","+entryB+"}", 60), Truncated},
	{"no data", encode("{"+entryA+","+entryB+"}", 0), Truncated},
	{"header cut", withLength(encode("{"+entryA+"}", 24), 500), Truncated},
	{"header at the limit", withLength(encode("{"+entryA+"}", 24), MaxHeader), Truncated},
	{"header over the limit", withLength(encode("{"+entryA+"}", 24), MaxHeader+1), HeaderTooLong},
	{"header 2^63", withLength(encode("{"+entryA+"}", 24), 1<<63), HeaderTooLong},
	{"header 2^64-1", withLength(encode("{"+entryA+"}", 24), 1<<64-1), HeaderTooLong},
	{"header of no bytes", encode("", 0), BadJSON},
	{"broken", encode(`{"a":{"dtype":"F32","shape":[2,3],"data_off`, 24), BadJSON},
	{"comma at the end", encode("{"+entryA+",}", 24), BadJSON},
	{"array", encode("[]", 0), BadJSON},
	{"number", encode("12", 0), BadJSON},
	{"space before", encode(" {"+entryA+"}", 24), BadJSON},
	{"letter after", encode("{"+entryA+"}x", 24), BadJSON},
	{"object after", encode("{"+entryA+"}{}", 24), BadJSON},
	{"newline after", encode("{"+entryA+"}\n", 24), BadJSON},
	{"not UTF-8", encode("{\"\xff\xfe\":{}}", 0), BadJSON},
	{"metadata number", encode(`{"__metadata__":{"step":1},`+entryA+`}`, 24), BadJSON},
	{"metadata string", encode(`{"__metadata__":"pt",`+entryA+`}`, 24), BadJSON},
	{"metadata nested", encode(`{"__metadata__":{"a":{"b":"c"}},`+entryA+`}`, 24), BadJSON},
	{"metadata null", encode(`{"__metadata__":null,`+entryA+`}`, 24), BadJSON},
	{"no offsets", encode(`{"a":{"dtype":"F32","shape":[0]}}`, 0), BadJSON},
	{"no dtype", encode(`{"a":{"data_offsets":[0,0],"shape":[0]}}`, 0), BadJSON},
	{"no shape", encode(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4), BadJSON},
	{"key in wrong case", encode(`{"a":{"DTYPE":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), BadJSON},
	{"unknown field", encode(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":[1]}}`, 4), BadJSON},
	{"field twice", encode(`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), BadJSON},
	{"three offsets", encode(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}`, 4), BadJSON},
	{"shape of strings", encode(`{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}`, 4), BadJSON},
	{"shape of fractions", encode(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, 4), BadJSON},
	{"dtype number", encode(`{"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}}`, 4), BadJSON},
	{"entry null", encode(`{"a":null}`, 0), BadJSON},
	{"dtype unknown", encode(`{`+entryA+`,"b":{"dtype":"F31","shape":[10],"data_offsets":[24,64]}}`, 64), BadDType},
	{"dtype lower case", encode(`{`+entryA+`,"b":{"dtype":"f32","shape":[10],"data_offsets":[24,64]}}`, 64), BadDType},
	{"dtype empty", encode(`{"b":{"dtype":"","shape":[0],"data_offsets":[0,0]}}`, 0), BadDType},
	{"shape too small", encode(`{`+entryA+`,"b":{"dtype":"F32","shape":[3,3],"data_offsets":[24,64]}}`, 64), BadShape},
	{"shape negative", encode(`{`+entryA+`,"b":{"dtype":"F32","shape":[-2,-5],"data_offsets":[24,64]}}`, 64), BadShape},
	{"shape overflows to 0", encode(`{"c":{"dtype":"F32","shape":[2147483648,2147483648,4],"data_offsets":[0,0]}}`, 0), BadShape},
	{"size wraps", encode(fmt.Sprintf(`{`+entryA+`,"b":{"dtype":"F32","shape":[%d],"data_offsets":[24,64]}}`, uint64(1<<62+10)), 64), BadShape},
	{"shape beyond 64 bits", encode(`{"c":{"dtype":"F32","shape":[18446744073709551617],"data_offsets":[0,4]}}`, 4), BadShape},
	{"overflow before zero", encode(`{"c":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}}`, 0), BadShape},
	{"half a byte", encode(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1), BadShape},
	{"offsets reversed", encode(`{`+entryA+`,"b":{"dtype":"F32","shape":[10],"data_offsets":[64,24]}}`, 64), BadShape},
	{"offset negative", encode(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, 4), BadShape},
	{"duplicate", encode(`{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"a":{"dtype":"F32","shape":[8],"data_offsets":[32,64]}}`, 64), Duplicate},
	{"duplicate equal", encode("{"+entryA+","+entryA+"}", 24), Duplicate},
	{"duplicate escaped", encode(`{`+entryA+`,"\u0061":{"dtype":"F32","shape":[0],"data_offsets":[24,24]}}`, 24), Duplicate},
	{"metadata twice", encode(`{"__metadata__":{},"__metadata__":{},`+entryA+`}`, 24), Duplicate},
	{"overlap", encode(`{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]},"b":{"dtype":"F32","shape":[8],"data_offsets":[32,64]}}`, 64), Overlap},
	{"overlap same", encode(`{"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]},"b":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}`, 64), Overlap},
	{"hole", encode(`{`+entryA+`,"b":{"dtype":"F32","shape":[9],"data_offsets":[28,64]}}`, 64), Hole},
	{"hole first", encode(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]}}`, 32), Hole},
	{"trailing data", encode("{"+entryA+","+entryB+"}", 72), Hole},
	{"hole before the end", encode(`{`+entryA+`,"b":{"dtype":"F32","shape":[9],"data_offsets":[28,64]}}`, 60), Hole},
	{"dtype before overlap", encode(`{"a":{"dtype":"F31","shape":[9],"data_offsets":[0,36]},"b":{"dtype":"F32","shape":[8],"data_offsets":[32,64]}}`, 64), BadDType},
}

func TestHeaderClasses(t *testing.T) {
	for _, c := range headerCases {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("x.safetensors", c.file)
			if got := ClassOf(err); got != c.want || (err != nil) != (c.want != "") {
				t.Fatalf("class %q, error %v, expected class %q", got, err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), "x.safetensors") || !strings.Contains(err.Error(), "; ")) {
				t.Errorf("message without file or advice: %v", err)
			}
			if err == nil {
				for _, name := range f.Names() {
					if _, err := f.Bytes(name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// The mapped reader must judge as the reader of bytes does.
func TestOpenAgreesWithParse(t *testing.T) {
	dir := t.TempDir()
	for i, c := range headerCases {
		path := filepath.Join(dir, fmt.Sprintf("%d.safetensors", i))
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if ClassOf(err) != c.want {
			t.Errorf("%s: %v, expected class %q", c.name, err, c.want)
		}
		if err == nil {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "absent.safetensors"))
	if ClassOf(err) != IO || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Open(t.TempDir()); ClassOf(err) != IO {
		t.Errorf("folder: %v", err)
	}
}

// A false header must not cost memory: sizes in it are tested against the file before anything is made.
func TestFalseHeadersAllocateNothing(t *testing.T) {
	files := [][]byte{
		withLength(encode("{}", 0), MaxHeader),
		encode(`{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}`, 16),
		encode(`{"a":{"dtype":"F32","shape":[2147483648,2147483648],"data_offsets":[0,0]}}`, 0),
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, file := range files {
		if f, err := Parse("x", file); err == nil {
			t.Errorf("accepted %v", f.Names())
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("refusing took %d bytes", grown)
	}
}

// Damage at any byte is either refused with a class or leaves tensors inside the file.
func TestDamagedFiles(t *testing.T) {
	whole, err := os.ReadFile("testdata/odd.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		file := bytes.Clone(whole)
		for range 1 + random.IntN(3) {
			file[random.IntN(len(file))] = byte(random.Uint32())
		}
		if random.IntN(4) == 0 {
			file = file[:random.IntN(len(file))]
		}
		readAll(t, file)
	}
}

// readAll reads every tensor in every way and demands that a refusal has a class.
func readAll(t *testing.T, file []byte) *File {
	t.Helper()
	f, err := Parse("x", file)
	if err != nil {
		if ClassOf(err) == "" {
			t.Fatalf("refusal without class: %v", err)
		}
		return nil
	}
	total := 0
	for _, name := range f.Names() {
		data, err := f.Bytes(name)
		if err != nil {
			t.Fatal(err)
		}
		total += len(data)
		if _, err := f.Float32(name); err != nil && ClassOf(err) != BadDType {
			t.Fatal(err)
		}
		if _, err := f.Int64(name); err != nil && ClassOf(err) != BadDType {
			t.Fatal(err)
		}
	}
	if total != len(file)-int(f.DataStart) {
		t.Fatalf("tensors have %d bytes, the data %d", total, len(file)-int(f.DataStart))
	}
	return f
}

func FuzzParse(f *testing.F) {
	for _, c := range headerCases {
		f.Add(c.file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		in := readAll(t, file)
		if in == nil {
			return
		}
		var tensors []Tensor
		for _, info := range in.Tensors() {
			data, _ := in.Bytes(info.Name)
			tensors = append(tensors, Raw(info.Name, info.DType, info.Shape, data))
		}
		var out bytes.Buffer
		if _, err := Write(&out, tensors, in.Metadata()); err != nil {
			t.Fatal(err)
		}
		again := readAll(t, out.Bytes())
		if again == nil {
			t.Fatal("a written file is refused")
		}
		sameTensors(t, in, again)
	})
}

func sameTensors(t *testing.T, a, b *File) {
	t.Helper()
	if strings.Join(a.Names(), "\x00") != strings.Join(b.Names(), "\x00") {
		t.Fatalf("names %q and %q", a.Names(), b.Names())
	}
	for _, name := range a.Names() {
		x, _ := a.Bytes(name)
		y, _ := b.Bytes(name)
		p, _ := a.Info(name)
		q, _ := b.Info(name)
		if !bytes.Equal(x, y) || p.DType != q.DType || fmt.Sprint(p.Shape) != fmt.Sprint(q.Shape) {
			t.Fatalf("%q: %v and %v", name, p, q)
		}
	}
	if fmt.Sprint(a.Metadata()) != fmt.Sprint(b.Metadata()) {
		t.Fatalf("metadata %v and %v", a.Metadata(), b.Metadata())
	}
}
