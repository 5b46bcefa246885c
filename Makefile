# A menu. Everything a target does stands in cargo, in baton-lab or in scripts/.
.DEFAULT_GOAL := help
.PHONY: help setup build check fmt lint test demo demo-drills up down bench bench-idle swarm sweep live \
	live-long pictures bench-answers mutants fuzz deny doc ci programs ci-swarm profile
LAB := target/release/baton-lab
# The simulated world is built as the tests are: optimised where it counts, arithmetic checked.
SIM := target/debug/baton-sim

help: ## this menu
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what is missing on this machine
	@bash scripts/setup

build: setup ## release binaries of everything
	@cargo build --release --workspace

check: ## does it compile
	@cargo check --workspace --all-targets

fmt: ## format the source
	@cargo fmt --all

lint: ## formatting and lints, nothing tolerated
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings

test: setup programs ## everything that must pass, but the long runs
	@cargo test --workspace --no-fail-fast

programs:
	@cargo build --workspace --bins

demo: build ## lose a site, get it back, hand the service back
	@$(LAB) demo

demo-drills: build ## a drill of each kind, with its signed bundle
	@$(LAB) demo-drills

up: build ## leave a cluster of three sites running
	@$(LAB) up

down: ## end that cluster
	@if [ -x $(LAB) ]; then $(LAB) down; fi

bench: build ## every fault ten times: medians, phases, lost writes (RUNS=10 PROFILE=default)
	@$(LAB) bench --runs $(or $(RUNS),10) --profile $(or $(PROFILE),default)

bench-idle: build ## what the daemons cost while nothing happens
	@$(LAB) bench-idle

bench-answers: ## how soon voters answer, and the page shows, at 3 sites x 20 services (STAY=60 to look at it)
	@BATON_STAY=$(STAY) cargo test --release -p orchestrator --test voters -- --ignored --nocapture --exact answers::bench

pictures: build ## the pictures of the page in docs/images, from a real cluster (needs Chromium)
	@$(LAB) page --pictures docs/images

swarm: ## random disasters in the simulated world, as fast as it goes (SEEDS=10000 FROM=0)
	@cargo build --profile swarm -p simulation
	@target/swarm/baton-sim swarm --seeds $(or $(SEEDS),10000) --from $(or $(FROM),0)

profile: programs ## where the simulated world's time goes (needs valgrind)
	@bash scripts/profile

ci-swarm: programs
	@$(SIM) swarm --seeds 10000

sweep: programs ## every process killed at every step; every way to cut three sites
	@$(SIM) sweep crash
	@$(SIM) sweep partition

live: build ## the catalogue on real PostgreSQL, as root (NAME=SC-01 RUNS=1)
	@bash scripts/setup live
	@$(LAB) live $(NAME) --runs $(or $(RUNS),1)

live-long: build ## ten real minutes without any orchestrator, as root
	@bash scripts/setup live
	@$(LAB) live scenarios/long/*.toml

mutants: programs ## planted bugs: each must be caught (ONLY=name)
	@$(SIM) mutants $(if $(ONLY),--only $(ONLY))

fuzz: ## every decoder of outside bytes (SECONDS=90 TARGET=)
	@bash scripts/setup fuzz
	@bash scripts/fuzz $(or $(SECONDS),90) $(TARGET)

deny: setup ## licences, bans, sources and known vulnerabilities of the dependencies
	@bash scripts/deny

doc: ## the documentation of the source
	@cargo doc --workspace --no-deps --document-private-items

ci: lint deny test ci-swarm fuzz ## exactly what CI runs
