# make            builds bin/scn
# make demo       shows it: a transfer goes on while both hosts move (2 minutes)
# make demo-nat   the same between hosts behind NATs (1 minute)
# make demo-pay   a service is paid for: one channel, one bill, the sum as it was (1 minute)
# make test       everything that must hold before a change lands
# The rest is below; `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

GO    ?= go
TOOL  := $(GO) tool -modfile=conformance/tools/go.mod
BUILD := .build
BIN   := $(CURDIR)/bin/scn

# A clone that belongs to somebody else has no version for us to stamp.
ifneq ($(shell git rev-parse HEAD >/dev/null 2>&1 && echo yes),yes)
export GOFLAGS := $(GOFLAGS) -buildvcs=false
endif

# Packages whose tests run under the race detector. The suite runs programs, not
# Go code, and has its own target.
UNIT = $$($(GO) list ./... | grep -v -e /conformance/suite -e /conformance/netns -e /conformance/reach)

# How long all Fuzz functions together may take.
FUZZTIME ?= 3m

.PHONY: help build deps demo demo-nat demo-pay test lattice vet unit lean sim fuzz conformance check fmt lint tidy vuln bench bench-quick bench-cashier verify-cashier bench-proof bench-reach sim-inspect clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

build: ## bin/scn
	@mkdir -p bin
	$(GO) build -o bin/ ./daemon/cmd/scn

deps: ## the programs that tests run, by apt-get when root; nothing to do when they are there
	@conformance/tools/deps all

demo: build ## three hosts, a transfer, four moves
	@conformance/tools/deps demo
	@mkdir -p $(BUILD)
	$(GO) build -o $(BUILD)/ ./conformance/demo
	$(BUILD)/demo -scn $(BIN)

demo-nat: build ## two hosts behind NATs: relayed, direct, both move to other NATs
	@conformance/tools/deps demo-nat
	@mkdir -p $(BUILD)
	$(GO) build -o $(BUILD)/ ./conformance/demonat
	$(BUILD)/demonat -scn $(BIN)

demo-pay: build ## a priced service: paid as it is used, by one channel and one bill
	@conformance/tools/deps demo-pay
	@mkdir -p $(BUILD)
	$(GO) build -o $(BUILD)/ ./conformance/demopay
	$(BUILD)/demopay -scn $(BIN)

test: deps build lattice vet unit lean sim fuzz conformance ## vet, unit, race, simulator, fuzzing, lattice, namespace suite

lattice: ## who imports whom, and the rules of style
	$(GO) test ./conformance

vet:
	$(GO) vet ./...

unit: ## unit tests under the race detector
	GO=$(GO) conformance/tools/twice -race -shuffle=on -p 2 -timeout 10m $(UNIT)

lean: ## memory and allocations, which the race detector distorts
	$(GO) test -count=1 -timeout 5m -run 'Memory|IsSmall|Alloc' ./sal ./sal/path ./sal/relay ./sal/underlay

sim: ## the path machine through ten thousand seeds, money through a million operations
	$(GO) test -count=1 -timeout 10m -run TestSimulation ./sal/path -seeds 10000
	$(GO) test -count=1 -timeout 10m -run TestMoneyAgainstModel ./cashier -operations 1000000

sim-inspect: ## inspections through 2,000 epochs: cheating providers, lying inspectors (1 minute)
	$(GO) run ./conformance/inspectsim

fuzz: ## every Fuzz function, FUZZTIME (3m) in all
	$(GO) run ./conformance/fuzz -time $(FUZZTIME)

conformance: deps build ## the namespace suites alone: real programs on hosts that move and hide behind NATs
	SCN_BIN=$(BIN) GO=$(GO) conformance/tools/twice -count=1 -p 1 -timeout 15m ./conformance/netns ./conformance/suite ./conformance/reach

check: fmt tidy vet lint ## format, modules, vet, linters

fmt:
	@diff=$$(git ls-files '*.go' | xargs $(TOOL) gofumpt -l); [ -z "$$diff" ] || { echo "not gofumpt-ed:"; echo "$$diff"; exit 1; }

tidy:
	$(GO) mod tidy -diff
	cd conformance/tools && $(GO) mod tidy -diff

lint:
	$(TOOL) golangci-lint run ./...

vuln: ## known vulnerabilities in what we use
	$(TOOL) govulncheck ./...

bench: build ## micro benchmarks ten times over, then the end-to-end table
	@conformance/tools/deps all
	$(GO) test -run '^$$' -bench . -benchmem -count=10 -timeout 60m ./...
	@$(MAKE) --no-print-directory bench-quick

bench-cashier: ## the ledger's money: applied, signed and stored, verified; its trees; Pebble and signatures alone
	$(GO) test -run '^$$' -bench . -benchmem ./cashier/tree
	$(GO) test -run '^$$' -bench '^BenchmarkBatch$$' ./routing/identity
	$(GO) test -run '^$$' -bench 'ApplyTransfers|Transfers$$|Vouchers|PebbleBatches|Verify' -benchmem ./cashier
	$(GO) test -run '^$$' -bench 'ApplyAppHash|Open$$|Prove$$' -timeout 30m ./cashier

bench-proof: ## reports of inspectors: one epoch of 1,000 × 50 rows verified, on one core
	$(GO) test -run '^$$' -bench . -benchmem -cpu 1 ./proofofservice/...

verify-cashier: ## the books of 200,000 transactions verified, then with one bit changed in each kind of row
	$(GO) test -count=1 -timeout 30m -v -run TestVerifyNoticesOneBit ./cashier -verify-transactions 200000

bench-quick: build ## the speed table, wireguard-go beside us
	@conformance/tools/deps all
	@mkdir -p $(BUILD)
	@[ -x $(BUILD)/wireguard ] || GOBIN=$(CURDIR)/$(BUILD) $(GO) install golang.zx2c4.com/wireguard@latest
	$(GO) build -o $(BUILD)/ ./conformance/bench
	$(BUILD)/bench -scn $(BIN) -wireguard $(CURDIR)/$(BUILD)/wireguard

bench-reach: build ## who reaches whom behind NATs, both move, a train, what a relay bears (30 minutes)
	@conformance/tools/deps all
	@mkdir -p $(BUILD)
	$(GO) build -o $(BUILD)/ ./conformance/benchreach
	$(BUILD)/benchreach -scn $(BIN)

clean:
	rm -rf bin $(BUILD)
