package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"

	"github.com/sciflux/sciflux/run"
)

const (
	region = "us-east-1"
	// copyLimit is the largest object in bytes that the gateway copies: that of S3. Left at 0 it copies none.
	copyLimit = 5 << 30
)

// gateway is the S3 service. Only one can run in a process, and it changes the working directory.
type gateway struct {
	data, sidecar string // folders of objects and, if the file system lacks attributes, of their metadata
	done          chan error
	objects       keyLocks
	sync          func(path string) error // syncPath
}

// startGateway serves the objects below dir until ctx ends, and returns when it listens.
func startGateway(ctx context.Context, dir string, port int, c credentials) (*gateway, error) {
	g := &gateway{data: filepath.Join(dir, "data"), done: make(chan error, 1), sync: syncPath}
	if err := os.MkdirAll(g.data, 0o700); err != nil {
		return nil, err
	}
	metadata, err := g.chooseMetadata(dir)
	if err == nil {
		err = g.checkCopied(dir)
	}
	if err != nil {
		return nil, err
	}
	backend, err := posix.New(g.data, metadata, posix.PosixOpts{
		Concurrency: 64, NewDirPerm: 0o700, NewFilePerm: 0o600, SideCarDir: g.sidecar, CopyObjectThreshold: copyLimit,
	})
	if err != nil {
		return nil, fmt.Errorf("open the objects in %s: %w", g.data, err)
	}
	listening := make(chan struct{})
	go func() {
		g.done <- embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
			RootUserAccess: c.AccessKey, RootUserSecret: c.SecretKey, Region: region, Ports: []string{address(port)},
			MaxConnections: 1024, MaxRequests: 512, MultipartMaxParts: 10000, KeepAlive: true, Quiet: true, DisableACLs: true,
			S3Options: []s3api.Option{
				s3api.WithOnListen(func() { close(listening) }),
				s3api.WithMiddleware("/", refuseUnsummed),
				s3api.WithMiddleware("/", g.oneAtATime),
				s3api.WithMiddleware("/", g.makeDurable),
			},
		})
	}()
	select {
	case <-listening:
		return g, nil
	case err := <-g.done:
		return nil, fmt.Errorf("start the S3 gateway: %w", errors.Join(err, ctx.Err()))
	}
}

// chooseMetadata keeps the metadata of objects in extended attributes where the file system has them, else in
// a folder beside the objects. What was chosen once stays, because the other would not find the metadata.
func (g *gateway) chooseMetadata(dir string) (meta.MetadataStorer, error) {
	choice := filepath.Join(dir, "metadata.json")
	var kept struct {
		Sidecar bool `json:"sidecar"`
	}
	attributes := hasAttributes(g.data)
	err := readJSON(choice, &kept)
	if errors.Is(err, fs.ErrNotExist) {
		kept.Sidecar = !attributes
		err = writeJSON(choice, 0o600, kept)
	}
	if err != nil {
		return nil, err
	}
	if !kept.Sidecar {
		if !attributes {
			return nil, fmt.Errorf("%s has its metadata in extended attributes, which this file system does not have: move the folder back to the old one",
				dir)
		}
		return meta.XattrMeta{}, nil
	}
	g.sidecar = filepath.Join(dir, "meta")
	if err := os.MkdirAll(g.sidecar, 0o700); err != nil {
		return nil, err
	}
	return meta.NewSideCar(g.sidecar)
}

// checkCopied refuses a folder that was copied without the extended attributes of its objects. A bucket that died while it
// was made, and holds nothing, is made again.
func (g *gateway) checkCopied(dir string) error {
	if g.sidecar != "" {
		return nil
	}
	buckets, err := os.ReadDir(g.data)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		if !bucket.IsDir() || strings.HasPrefix(bucket.Name(), ".") {
			continue
		}
		path := filepath.Join(g.data, bucket.Name())
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = (meta.XattrMeta{}).RetrieveAttribute(f, "", "", "acl")
		f.Close()
		if !errors.Is(err, meta.ErrNoSuchKey) || os.Remove(path) == nil {
			continue
		}
		return run.Errorf(run.ClassConfig, "start services", dir, "copy it again with `cp -a`, `tar --xattrs` or `rsync -aX`",
			"the state folder was copied without extended attributes, which hold what S3 knows of its objects")
	}
	return nil
}

// hasAttributes tries whether an extended attribute can be written and read in dir.
func hasAttributes(dir string) bool {
	f, err := os.CreateTemp(dir, ".attributes-*")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const value = "x"
	if (meta.XattrMeta{}).StoreAttribute(f, "", "", "probe", []byte(value)) != nil {
		return false
	}
	got, err := (meta.XattrMeta{}).RetrieveAttribute(f, "", "", "probe")
	return err == nil && string(got) == value
}

// refuseUnsummed refuses payloads that are neither signed nor summed: when their sender dies, this version of
// the gateway stores them cut.
func refuseUnsummed(c fiber.Ctx) error {
	if c.Method() == fiber.MethodPut && c.Get("X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD" && c.Get("X-Amz-Copy-Source") == "" &&
		!hasChecksum(c) {
		c.Set(fiber.HeaderConnection, "close")
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationXML)
		return c.Status(fiber.StatusBadRequest).SendString(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidRequest</Code><Message>an unsigned payload needs a checksum header</Message></Error>`)
	}
	return c.Next()
}

func hasChecksum(c fiber.Ctx) bool {
	if c.Get("Content-Md5") != "" {
		return true
	}
	for _, algorithm := range []string{"Crc32", "Crc32c", "Crc64nvme", "Sha1", "Sha256", "Sha512"} {
		if c.Get("X-Amz-Checksum-"+algorithm) != "" {
			return true
		}
	}
	return false
}

// oneAtATime keeps writers of an object from its readers where the metadata lies beside the objects: the gateway
// replaces an object and its metadata one after the other, and a reader in between would see a wrong checksum.
func (g *gateway) oneAtATime(c fiber.Ctx) error {
	if g.sidecar == "" {
		return c.Next()
	}
	reads := c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead
	unlock := g.objects.lock(string(c.Request().URI().PathOriginal()), reads)
	defer unlock()
	return c.Next()
}

// keyLocks has a lock for each key that somebody uses.
type keyLocks struct {
	mu    sync.Mutex
	inUse map[string]*keyLock
}

type keyLock struct {
	sync.RWMutex
	users int
}

func (k *keyLocks) lock(key string, shared bool) (unlock func()) {
	k.mu.Lock()
	l := k.inUse[key]
	if l == nil {
		if k.inUse == nil {
			k.inUse = map[string]*keyLock{}
		}
		l = &keyLock{}
		k.inUse[key] = l
	}
	l.users++
	k.mu.Unlock()
	done := l.Unlock
	if shared {
		l.RLock()
		done = l.RUnlock
	} else {
		l.Lock()
	}
	return func() {
		done()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.inUse, key)
		}
	}
}

// makeDurable syncs an object before its writer hears of success: the gateway publishes files atomically but
// does not sync them. Parts of an upload need none, the completed object is synced as a whole.
//
// A conditional write that could not be synced is taken back: its sender tries again, and must not be told that the object
// exists, which it would take for its own success.
func (g *gateway) makeDurable(c fiber.Ctx) error {
	// The path before anybody decodes it.
	name, nameErr := url.PathUnescape(string(c.Request().URI().PathOriginal()))
	if err := c.Next(); err != nil {
		return err
	}
	put := c.Method() == fiber.MethodPut && c.Query("partNumber") == ""
	complete := c.Method() == fiber.MethodPost && c.Query("uploadId") != ""
	if !put && !complete || c.Response().StatusCode() >= 300 {
		return nil
	}
	err := nameErr
	if err == nil {
		err = g.syncObject(name)
	}
	if err == nil {
		return nil
	}
	slog.Error("cannot sync an object", "path", name, "error", err)
	if nameErr == nil && (c.Get(fiber.HeaderIfNoneMatch) != "" || c.Get(fiber.HeaderIfMatch) != "") {
		if err := os.Remove(filepath.Join(g.data, filepath.Clean("/"+name))); err != nil {
			slog.Error("cannot take the object back", "path", name, "error", err)
		}
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationXML)
	return c.Status(fiber.StatusInternalServerError).SendString(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>InternalError</Code><Message>the object could not be synced to disk</Message></Error>`)
}

// syncObject syncs an object, its metadata and the folders on the way to it. name is the path of the request.
func (g *gateway) syncObject(name string) error {
	name = filepath.Clean("/" + name) // below the root, whatever it was
	if g.sidecar != "" {
		if err := g.syncFilesBelow(filepath.Join(g.sidecar, name, "meta")); err != nil {
			return err
		}
		if err := g.syncUpwards(g.sidecar, filepath.Join(name, "meta")); err != nil {
			return err
		}
	}
	return g.syncUpwards(g.data, name)
}

// syncUpwards syncs root/name and every folder above it up to root. What has been deleted meanwhile needs none.
func (g *gateway) syncUpwards(root, name string) error {
	for {
		if err := g.sync(filepath.Join(root, name)); err != nil {
			return err
		}
		if strings.Trim(name, "/") == "" {
			return nil
		}
		name = filepath.Dir(name)
	}
}

func (g *gateway) syncFilesBelow(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		if err := g.sync(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
