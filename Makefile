# make demo    everything from nothing to a running demonstration (ARGS="..." go to `streams demo`)
# make test    what CI runs: setup, check, then the whole test suite (ARGS="..." go to pytest)
# make fault   the fault suite: kills, servers that go away, bad links (ARGS="--scenario kill --scale 0.1")
# make bench   measures everything and writes docs/performance.md (ARGS=--quick for a few minutes)
# make cluster three RabbitMQ nodes, PostgreSQL with a standby, a Redis Cluster: nodes fail under load
# make dist    sdist and wheel into dist/ (ARGS=--try installs the wheel elsewhere and runs the demo there)
# make manifests  infra/ against the schemas of Kubernetes and Compose, rendered, where the tools are there
# make check   format, lint, types, import contracts; writes nothing
# make format  apply the formatter and the safe lint fixes
# make lock    write requirements.lock anew (ARGS=--upgrade for newer versions)
# make audit   known vulnerabilities of what is locked (needs an advisory service; 2 if there is none)
# make clean   stop what the local stack left, remove everything that is made here

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test fault cluster bench check dist manifests format lock audit clean

# Quoted wherever it is used: a checkout's path may hold spaces.
BIN := $(CURDIR)/.venv/bin
ARGS ?=
# Test processes, each with servers of its own: half of a test is waiting.
PROCESSES ?= 2

help:
	@sed -n 's/^# //p' "$(CURDIR)/Makefile"

setup:
	@"$(CURDIR)/scripts/setup.sh"

demo: setup
	@"$(BIN)/streams" demo $(ARGS)

bench: setup
	@"$(BIN)/streams" bench report $(ARGS)

check: setup
	"$(BIN)/ruff" format --check .
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

test: check
	@"$(CURDIR)/scripts/tools.sh"
	"$(BIN)/python" -m pytest --numprocesses $(PROCESSES) --dist loadfile $(ARGS)

fault: setup
	@"$(BIN)/python" -m tests.fault.harness.suite $(ARGS)

cluster: setup
	@"$(BIN)/python" -m tests.cluster.suite $(ARGS)

dist: setup
	@"$(CURDIR)/scripts/dist.sh" $(ARGS)

manifests: setup
	@"$(CURDIR)/scripts/manifests.sh" $(ARGS)

format: setup
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

lock:
	@"$(CURDIR)/scripts/lock.sh" $(ARGS)

audit:
	@"$(CURDIR)/scripts/audit.sh" $(ARGS)

clean:
	@"$(CURDIR)/scripts/clean.sh"
