package configs

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// module is the import path of the repository's root, which is the folder above this package.
const module = "github.com/sciflux/sciflux"

// unread are keys that nothing reads yet. One that is read must leave this list.
var unread = []string{}

// Every key is read by code that is no test and does not load, check or print configs: a key that nothing reads promises
// what nobody does.
func TestEveryKeyIsRead(t *testing.T) {
	read := readFields(t)
	for _, f := range Fields() {
		if f.Path == "preset" {
			continue // read by the loader: its values are the layer below the file
		}
		known := true
		for _, owner := range owners(f) {
			known = known && read[owner]
		}
		if known == slices.Contains(unread, f.Path) {
			t.Errorf("%s: read %v, listed as unread %v", f.Path, known, !known)
		}
	}
}

// owners are the Go fields on the way to a key, such as Config.SFT and Optim.LR.
func owners(f Field) (names []string) {
	t := reflect.TypeFor[Config]()
	for _, i := range f.index {
		sf := t.Field(i)
		if !sf.Anonymous {
			names = append(names, t.Name()+"."+sf.Name)
		}
		t = sf.Type
	}
	return names
}

// readFields type-checks the repository, as far as that goes without what it imports from elsewhere, and lists the fields
// of config sections whose values are used.
func readFields(t *testing.T) map[string]bool {
	t.Helper()
	w := &sources{t: t, fset: token.NewFileSet(), checked: map[string]*types.Package{}, read: map[string]bool{}}
	err := filepath.WalkDir("..", func(dir string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		if name := e.Name(); name == "testdata" || name == "tools" || strings.HasPrefix(name, ".") && name != ".." {
			return filepath.SkipDir
		}
		_, err = w.Import(path.Join(module, filepath.ToSlash(dir[2:])))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.read
}

// sources imports packages of the repository by checking their source. Others are empty: what is wrong for that reason
// is ignored, and types of this repository stay known.
type sources struct {
	t       *testing.T
	fset    *token.FileSet
	checked map[string]*types.Package
	read    map[string]bool // Type.Field
}

// Import implements types.Importer.
func (w *sources) Import(name string) (*types.Package, error) {
	if p, ok := w.checked[name]; ok {
		return p, nil
	}
	p := types.NewPackage(name, path.Base(name))
	w.checked[name] = p
	if inside, ok := strings.CutPrefix(name, module); ok {
		files := w.parse(filepath.Join("..", filepath.FromSlash(inside)))
		info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}, Types: map[ast.Expr]types.TypeAndValue{}}
		c := types.Config{Importer: w, FakeImportC: true, Error: func(error) {}}
		if checked, _ := c.Check(name, w.fset, files, info); checked != nil {
			p, w.checked[name] = checked, checked
		}
		for _, f := range files {
			w.collect(f, info, name == module+"/configs")
		}
	}
	p.MarkComplete()
	return p, nil
}

// parse reads the files of a folder that this platform compiles.
func (w *sources) parse(dir string) (files []*ast.File) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		if ok, err := build.Default.MatchFile(dir, e.Name()); err != nil || !ok {
			continue
		}
		f, err := parser.ParseFile(w.fset, filepath.Join(dir, e.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			w.t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// collect notes the fields that a file reads. Setting a field or taking its address does not read it; comparing a section
// reads all of it. In this package only methods of sections count, such as Secret.Value.
func (w *sources) collect(file *ast.File, info *types.Info, own bool) {
	written := map[ast.Node]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			return !own || ofSection(n)
		case *ast.AssignStmt:
			for _, x := range n.Lhs {
				written[x] = true
			}
		case *ast.UnaryExpr:
			written[n.X] = n.Op == token.AND
		case *ast.BinaryExpr:
			w.compared(info.TypeOf(n.X))
		case *ast.SelectorExpr:
			if s := info.Selections[n]; s != nil && s.Kind() == types.FieldVal && !written[n] {
				w.read[ownerOf(s)] = true
			}
		}
		return true
	})
}

// compared notes the fields of a section that is compared as a whole.
func (w *sources) compared(t types.Type) {
	n, ok := t.(*types.Named)
	if !ok || n.Obj().Pkg() == nil || n.Obj().Pkg().Path() != module+"/configs" {
		return
	}
	if s, ok := n.Underlying().(*types.Struct); ok {
		for i := range s.NumFields() {
			w.read[n.Obj().Name()+"."+s.Field(i).Name()] = true
		}
	}
}

// ofSection reports whether a function is a method of a section of the config.
func ofSection(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return false
	}
	t, ok := f.Recv.List[0].Type.(*ast.Ident)
	return ok && slices.ContainsFunc(Fields(), func(f Field) bool { return strings.HasPrefix(f.Owner, t.Name+".") && t.Name != "Config" })
}

// ownerOf is Type.Field of a selected field, with the type that declares it; empty for fields of other packages.
func ownerOf(s *types.Selection) string {
	if s.Obj().Pkg() == nil || s.Obj().Pkg().Path() != module+"/configs" {
		return ""
	}
	t := s.Recv()
	name := ""
	for _, i := range s.Index() {
		if p, ok := t.Underlying().(*types.Pointer); ok {
			t = p.Elem()
		}
		if n, ok := t.(*types.Named); ok {
			name = n.Obj().Name()
		}
		st, ok := t.Underlying().(*types.Struct)
		if !ok {
			return ""
		}
		t = st.Field(i).Type()
	}
	return name + "." + s.Obj().Name()
}
