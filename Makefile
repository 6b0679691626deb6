# The commands of the house. `make help` lists them.
# Variables: ARGS, handed to the program (run), to pytest (clients) or to the load driver (bench).

CARGO ?= cargo
ARGS ?=
# Debug builds are not used: tests and `run` share the release profile, so that
# nothing large compiles twice.

.DEFAULT_GOAL := help
.PHONY: help run build deps test unit clients heavy torture bench check check-fast doc deny fix clean-data

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

run: ## build and start a cluster on this machine (ARGS="--scale storage=5")
	$(CARGO) run --release -- up $(ARGS)

build: ## the program alone: target/release/mocks3
	$(CARGO) build --release

deps: ## what the tests need, into the ignored folder .deps/
	tests/tools/install.sh clients consul

test: ## everything required: installs, builds, cargo test, the client suite; minutes per part at the end
	tests/tools/test.sh all

unit: ## only the Rust tests
	tests/tools/test.sh rust

clients: ## only the client suite (ARGS="-k multipart -x")
	tests/tools/test.sh clients $(ARGS)

heavy: ## the long tests of tests/README.md, on demand
	tests/tools/test.sh heavy $(ARGS)

torture: ## an hour of the nemesis (MOCKS3TEST_SECONDS, MOCKS3TEST_SEED say otherwise)
	MOCKS3TEST_SECONDS=$${MOCKS3TEST_SECONDS:-3600} $(CARGO) test --release --test nemesis -- --nocapture nothing_acknowledged

bench: ## MockS3 beside SeaweedFS in one table (ARGS="--rounds 3 --rows put-4KiB"), and the catalog's bench
	tests/tools/install.sh clients
	tests/tools/bench.sh $(ARGS)

check: check-fast doc deny ## fmt, clippy -D warnings, docs, cargo deny; changes nothing

check-fast: ## fmt and clippy only
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings

doc: # for those who work on it: private items too, and links to them
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --release --no-deps --document-private-items

deny:
	tests/tools/install.sh deny
	.deps/cargo/bin/cargo-deny check bans licenses sources
	@if [ -d "$${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs" ]; then \
	  .deps/cargo/bin/cargo-deny --offline check advisories; \
	else echo "advisories not checked: there is no database at hand"; fi

fix: ## format, and let clippy repair what it can
	$(CARGO) fmt
	$(CARGO) clippy --release --all-targets --fix --allow-dirty --allow-staged

clean-data: ## removes what failed client tests left in target/client-tests
	rm -rf target/client-tests
