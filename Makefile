# sciflux: `make run` is the main job, `make test` is everything CI checks.
SHELL := bash
GO    ?= go
BIN   := bin/sciflux
# One place for flags: -trimpath keeps build paths out of the binary, -s -w halves it.
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
STATE   ?= .sciflux
LINT    := $(GO) tool -modfile=tools/lint/go.mod golangci-lint
# Packages that link the embedded server. Linters that study dependencies would spend a quarter of an hour on its two
# thousand packages, so these get the others; `go vet` looks at all of them.
SERVER  := /cmd/|/internal/|/workflows/durability

.PHONY: run smoke build test unit lint mutate vuln bench soak peers docs deps clean

run: build ## Draw the world, fine-tune in two stages, evaluate, write the report (about eight minutes on 2 cores)
	$(BIN) run world --state-dir $(STATE)

smoke: build ## Both stages end to end in about a minute
	$(BIN) run world-smoke --state-dir $(STATE)

build: deps ## Build the one binary
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/sciflux

deps: ## Optional system packages (oneDNN); everything works without them, slower
	@tools/deps.sh

test: deps lint unit ## Everything CI checks

unit:
	$(GO) vet ./...
	$(GO) test -timeout 30m ./...

lint: ## gofmt, layers (depguard) and the usual linters
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'gofmt needed:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(LINT) run $$($(GO) list ./... | grep -v -E '$(SERVER)' | sed 's,^github.com/sciflux/sciflux,.,')
	$(LINT) run --disable govet,staticcheck,bodyclose ./cmd/... ./internal/... ./workflows/durability

mutate: ## Deliberate faults, one at a time: each must fail a test (a quarter of an hour on 2 cores; writes docs/mutations.md)
	$(GO) run ./tools/mutate

vuln: ## Known vulnerabilities (asks the Go vulnerability database over the network)
	$(GO) tool -modfile=tools/lint/go.mod govulncheck ./...

bench: build ## Kernel and step benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 1s ./engine/... ./model/... ./trainer/...
	$(BIN) bench step --model world
	$(BIN) bench score --model world

peers: build ## Compare with PyTorch in one run (needs Python with torch, diffusers, peft)
	python3 tools/peers/compare.py --sciflux $(BIN)

soak: build ## Kill the run again and again; the adapter must not change
	SCIFLUX_SOAK=20 $(GO) test -timeout 60m -run TestKillAndResume -v ./cmd/sciflux

docs: ## Regenerate the config reference: docs/config.md with the schema and the table of keys it is made beside
	$(GO) test ./configs -update

clean:
	rm -rf bin $(STATE)
