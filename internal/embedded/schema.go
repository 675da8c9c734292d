package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/headers"
	"go.temporal.io/server/common/primitives/timestamp"
	"go.temporal.io/server/schema"
	sqliteschema "go.temporal.io/server/schema/sqlite"
)

// SearchAttributes are the custom search attributes of the namespace: those that workflows write. They count when the
// database is made; a namespace has room for 10 keywords and 3 of each other type.
var SearchAttributes = map[string]enumspb.IndexedValueType{
	"RunKind":    enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"RunStage":   enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"RunStatus":  enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"ConfigHash": enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"RunStep":    enumspb.INDEXED_VALUE_TYPE_INT,
	"RunEpoch":   enumspb.INDEXED_VALUE_TYPE_INT,
	"BestMetric": enumspb.INDEXED_VALUE_TYPE_DOUBLE,
}

// stamp says which server made a database. The server neither checks nor migrates an SQLite schema.
type stamp struct {
	ServerVersion string `json:"server_version"`
	Schema        string `json:"schema_sha256"`
}

// currentStamp describes the schema that this binary would make.
func currentStamp() (stamp, error) {
	sum := sha256.New()
	err := fs.WalkDir(schema.Assets(), "sqlite", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".sql" {
			return err
		}
		text, err := fs.ReadFile(schema.Assets(), path)
		fmt.Fprintf(sum, "%s %d\n", path, len(text))
		sum.Write(text)
		return err
	})
	if err != nil {
		return stamp{}, fmt.Errorf("read the schema of the Temporal server: %w", err)
	}
	return stamp{ServerVersion: headers.ServerVersion, Schema: hex.EncodeToString(sum.Sum(nil))}, nil
}

// sqlStore is the database in dir as the server is told of it. synchronous=full makes a commit survive a power
// cut; MaxConns stays unset, which means one connection, the safe number for SQLite.
//
// The server makes a URI of the path, in which three characters of it would mean something.
func sqlStore(path string, settings map[string]string) *config.SQL {
	path = strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	return &config.SQL{PluginName: "sqlite", DatabaseName: path, ConnectAttributes: settings}
}

// openDatabase makes the database of the Temporal server in dir unless it is there. A database of another
// schema is put aside under a dated name, which is returned.
func openDatabase(dir string, o Options) (sql *config.SQL, setAside string, err error) {
	now, err := currentStamp()
	if err != nil {
		return nil, "", err
	}
	path, stampPath := filepath.Join(dir, "temporal.db"), filepath.Join(dir, "stamp.json")
	var made stamp
	stampErr := readJSON(stampPath, &made)
	_, dbErr := os.Stat(path)
	if dbErr == nil && (stampErr != nil || made.Schema != now.Schema) {
		if setAside, err = putAside(path, made); err != nil {
			return nil, "", err
		}
		dbErr = fs.ErrNotExist
	}
	sql = sqlStore(path, map[string]string{"mode": "rwc", "journal_mode": "wal", "synchronous": "full", "busy_timeout": "10000"})
	if errors.Is(dbErr, fs.ErrNotExist) {
		// The stamp first: a database without one is put aside, a stamp without a database does no harm.
		if err := writeJSON(stampPath, 0o600, now); err != nil {
			return nil, "", err
		}
		if err := makeSchema(path); err != nil {
			return nil, "", err
		}
	} else if dbErr != nil {
		return nil, "", dbErr
	}
	if made.Schema == now.Schema && made.ServerVersion != now.ServerVersion {
		if err := writeJSON(stampPath, 0o600, now); err != nil {
			return nil, "", err
		}
	}
	return sql, setAside, makeNamespace(sql, o)
}

// makeSchema makes an empty database under another name first, so that a crash leaves no half schema.
func makeSchema(path string) error {
	temp := path + ".new"
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(temp + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := sqliteschema.SetupSchema(sqlStore(temp, map[string]string{"mode": "rwc"})); err != nil {
		return fmt.Errorf("make the database of the Temporal server: %w", err)
	}
	return os.Rename(temp, path)
}

func makeNamespace(sql *config.SQL, o Options) error {
	namespace, err := sqliteschema.NewNamespaceConfig(clusterName, o.Namespace, false, SearchAttributes)
	if err != nil {
		return fmt.Errorf("describe namespace %s: %w", o.Namespace, err)
	}
	namespace.Detail.Config.Retention = timestamp.DurationPtr(o.Retention) // the default is one day
	if err := sqliteschema.CreateNamespaces(sql, namespace); err != nil {
		return fmt.Errorf("make namespace %s: %w; if the database is damaged, move the folder of it away: runs resume from their checkpoints",
			o.Namespace, err)
	}
	return nil
}

// putAside renames a database with its log to a dated name that nobody uses.
func putAside(path string, made stamp) (string, error) {
	version := made.ServerVersion
	if version == "" {
		version = "unknown"
	}
	aside := fmt.Sprintf("%s.%s-of-%s", path, time.Now().UTC().Format("20060102-150405.000"), version)
	for _, suffix := range []string{"-wal", "-shm", ""} { // the database last: it tells that there is work left
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("put aside a database of another server version: %w", err)
		}
	}
	return aside, nil
}

// clusterID returns the identity of the cluster, made once.
func clusterID(dir string) (string, error) {
	path := filepath.Join(dir, "cluster.json")
	var cluster struct {
		ID string `json:"id"`
	}
	if err := readJSON(path, &cluster); err == nil && cluster.ID != "" {
		return cluster.ID, nil
	}
	cluster.ID = uuid.NewString()
	return cluster.ID, writeJSON(path, 0o600, cluster)
}
