package embedded

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	tlog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite" // registers the database
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

const clusterName = "embedded"

// startTemporal starts a Temporal server with its state in dir. It returns the server and the database that
// was put aside, if any.
func startTemporal(dir string, o Options, p ports) (temporal.Server, string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	sql, setAside, err := openDatabase(dir, o)
	if err != nil {
		return nil, "", err
	}
	id, err := clusterID(dir)
	if err != nil {
		return nil, "", err
	}
	cfg := temporalConfig(sql, id, p)
	logger := tlog.NewZapLogger(tlog.BuildZapLogger(tlog.Config{Level: "error"}))
	authorizer, err := authorization.GetAuthorizerFromConfig(&cfg.Global.Authorization)
	if err != nil {
		return nil, "", err
	}
	claims, err := authorization.GetClaimMapperFromConfig(&cfg.Global.Authorization, logger)
	if err != nil {
		return nil, "", err
	}
	host := func(port int) static.Hosts { return static.SingleLocalHost(address(port)) }
	server, err := temporal.NewServer(
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(map[primitives.ServiceName]static.Hosts{ // no membership protocol, so no further ports
			primitives.FrontendService: host(p.temporal), primitives.HistoryService: host(p.history),
			primitives.MatchingService: host(p.matching), primitives.WorkerService: host(p.internal),
		}),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(dynamicconfig.StaticClient{
			dynamicconfig.HistoryCacheHostLevelMaxSize.Key():                 8096, // entries; the default is for a cluster
			dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
		}),
	)
	if err != nil {
		return nil, "", fmt.Errorf("make the Temporal server: %w", err)
	}
	if err := server.Start(); err != nil {
		return nil, "", fmt.Errorf("start the Temporal server in %s: %w", filepath.Base(dir), err)
	}
	return server, setAside, nil
}

func temporalConfig(sql *config.SQL, id string, p ports) *config.Config {
	service := func(port int) config.Service {
		return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: loopback}}
	}
	frontend := service(p.temporal)
	frontend.RPC.HTTPPort = p.temporalHTTP
	const database = "sqlite"
	cfg := &config.Config{
		Persistence: config.Persistence{
			DefaultStore: database, VisibilityStore: database,
			NumHistoryShards: 1, // never to be changed for a given database
			DataStores:       map[string]config.DataStore{database: {SQL: sql}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10, MasterClusterName: clusterName, CurrentClusterName: clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
				Enabled: true, InitialFailoverVersion: 1, RPCAddress: address(p.temporal), HTTPAddress: address(p.temporalHTTP), ClusterID: id,
			}},
		},
		Services: map[string]config.Service{
			"frontend": frontend, "history": service(p.history), "matching": service(p.matching), "worker": service(p.internal),
		},
		PublicClient: config.PublicClient{HostPort: address(p.temporal)},
	}
	cfg.Global.Membership.MaxJoinDuration = 30 * time.Second
	cfg.Global.Membership.BroadcastAddress = loopback
	cfg.DCRedirectionPolicy.Policy = "noop"
	const off = "disabled"
	cfg.Archival.History.State, cfg.Archival.Visibility.State = off, off
	cfg.NamespaceDefaults.Archival.History.State, cfg.NamespaceDefaults.Archival.Visibility.State = off, off
	return cfg
}

// awaitNamespace waits until the server answers for the namespace.
func awaitNamespace(ctx context.Context, address, namespace string) error {
	quiet := sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	c, err := client.DialContext(ctx, client.Options{HostPort: address, Namespace: namespace, Logger: quiet})
	if err != nil {
		return fmt.Errorf("reach the Temporal server: %w", err)
	}
	defer c.Close()
	for {
		_, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for namespace %s: %w", namespace, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
