package embedded

import (
	"context"
	"fmt"
	"net/http"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"
)

// startUI serves Temporal's web UI and returns when it answers. It ends the process if it cannot listen.
func startUI(ctx context.Context, port int, temporalAddress, namespace string) (*uiserver.Server, error) {
	ui := uiserver.NewServer(server_options.WithConfigProvider(&uiconfig.Config{
		Host: loopback, Port: port, TemporalGRPCAddress: temporalAddress, EnableUI: true, DefaultNamespace: namespace,
		CORS:     uiconfig.CORS{CookieInsecure: true}, // plain HTTP on the loopback interface
		HideLogs: true, DisableNewsFetch: true,        // nothing is asked of the internet
	}))
	failed := make(chan error, 1)
	go func() { failed <- ui.Start() }()
	client := http.Client{Timeout: time.Second}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address(port)+"/healthz", nil)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return ui, nil
			}
			err = fmt.Errorf("status %s", response.Status)
		}
		select {
		case startErr := <-failed:
			return nil, fmt.Errorf("start the web UI: %w", startErr)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the web UI: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
