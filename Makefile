# Every target sets up what it needs, inside this folder: `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
STOCK_VENV ?= .venv-stock
TESTS ?= tests
JOBS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
MODEL ?=
RUNS ?= 1000000
N ?= 20000
SEED ?= 1
CONNECTIONS ?= 10000
MINUTES ?=
EVERY ?= 1 2 3 5 8

BUILD_ENV := build/env
LINT_ENV := build/lint
PIP := -m pip --disable-pip-version-check --quiet install

# What the wheel is made of.
SOURCES := $(shell find python src ci -type f \
	-not -path '*/.*' -not -path '*/__pycache__/*' -not -name '*.so') \
	pyproject.toml setup.py LICENSE NOTICE

# Ray reports usage to its makers unless told not to.
export RAY_USAGE_STATS_ENABLED := 0
# For tests: the wheel, the interpreters of stock and of the build; no falling back to Python.
RUN := RAY_AUTH_MODE=disabled REQUIRE_CYTHON=1 RECONNECT_WHEEL="$$(cat build/wheel.name)" \
	RECONNECT_BUILD_PYTHON="$(abspath $(BUILD_ENV)/bin/python)" \
	STOCK_PYTHON="$(abspath $(STOCK_VENV)/bin/python)"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help wheel venv stock-venv test fuzz hostile simulate always-crash chaos soak sanitize model lint bench demo dev undev manifest clean distclean

help:
	@echo 'make demo [ADDRESS=ray://host:port]  see a session outlive its server'
	@echo 'make test [TESTS=path]               run the tests (JOBS= at a time; PYTEST_ARGS= for more)'
	@echo 'make fuzz [RUNS=1000000 SEED=1]      any bytes for all that reads what others have written'
	@echo 'make hostile [CONNECTIONS=10000]     attack a proxier while a session works (SEED=)'
	@echo 'make simulate [N=20000 SEED=1]       sessions in a simulated world: N schedules (JOBS= processes)'
	@echo 'make always-crash [EVERY="1 2 3 5 8"] servers die before and after every N-th request'
	@echo 'make chaos [MINUTES=10 SEED=1]       servers, links and proxier fail at random while 3 sessions work'
	@echo 'make soak [MINUTES=60 SEED=1]        a death a minute, and flat memory'
	@echo 'make sanitize                        the cache under ASan and UBSan, and under TSan'
	@echo 'make model [MODEL=name…]             check the model of the protocol with spin, all states'
	@echo 'make wheel                           build dist/ray-…whl'
	@echo 'make venv, make stock-venv           $(VENV) with the wheel, $(STOCK_VENV) with stock Ray'
	@echo 'make bench                           run the benchmarks, side by side with stock'
	@echo 'make lint                            ruff and mypy'
	@echo 'make dev, make undev                 run this tree out of $(VENV), and undo it (VENV=)'
	@echo 'make manifest                        list new files in the overlay manifest and NOTICE'
	@echo 'make clean, make distclean           remove what was built; and the environments, downloads'
	@echo 'PYTHON= names the interpreter (3.10 to 3.13); it is $(PYTHON) now.'

# Names the interpreter that the environments are made with; only touched if it changed.
build/python: FORCE
	@mkdir -p build
	@$(PYTHON) ci/lock.py
	@$(PYTHON) -c 'import sys; print(sys.executable, sys.version)' > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
.PHONY: FORCE
FORCE:

build/env.stamp: build/python ci/requirements-build.txt
	$(PYTHON) ci/make_venv.py $(BUILD_ENV)
	$(BUILD_ENV)/bin/python $(PIP) -r ci/requirements-build.txt
	@touch $@

build/wheel.stamp: build/env.stamp $(SOURCES)
	@mkdir -p dist
	@rm -f dist/ray-*.whl
	$(BUILD_ENV)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls $(CURDIR)/dist/ray-*.whl > build/wheel.name
	@touch $@

wheel: build/wheel.stamp
	@cat build/wheel.name

$(VENV)/.test-stamp: build/python ci/requirements-test.txt
	$(PYTHON) ci/make_venv.py $(VENV)
	$(VENV)/bin/python $(PIP) -r ci/requirements-test.txt
	@touch $@

# Links of `make dev` would outlive the files that they replace.
$(VENV)/.wheel-stamp: $(VENV)/.test-stamp build/wheel.stamp
	@test ! -d $(VENV)/replaced-by-dev || $(MAKE) --no-print-directory undev
	$(VENV)/bin/python $(PIP) --force-reinstall --no-deps "$$(cat build/wheel.name)"
	$(VENV)/bin/python $(PIP) "$$(cat build/wheel.name)" -r ci/requirements-test.txt
	@touch $@

venv: $(VENV)/.wheel-stamp

$(STOCK_VENV)/.stamp: build/env.stamp ci/stock.lock.json ci/requirements-test.txt
	$(PYTHON) ci/make_venv.py $(STOCK_VENV)
	stock=$$($(BUILD_ENV)/bin/python ci/fetch.py) && \
		$(STOCK_VENV)/bin/python $(PIP) "$$stock" -r ci/requirements-test.txt
	@touch $@

stock-venv: $(STOCK_VENV)/.stamp

test: venv stock-venv
	$(RUN) $(VENV)/bin/python -m pytest --numprocesses $(JOBS) --dist loadfile \
		$(TESTS) $(PYTEST_ARGS)

fuzz: venv
	$(VENV)/bin/python -m tests.fuzz --runs $(RUNS) --seed $(SEED)

# gRPC would write a line for each connection that is broken off.
hostile: venv
	GRPC_VERBOSITY=ERROR $(VENV)/bin/python -m tests.hostile \
		--connections $(CONNECTIONS) --seed $(SEED)

simulate: venv
	$(VENV)/bin/python -m tests.simulation --count $(N) --seed $(SEED) $(if $(JOBS),--jobs $(JOBS))

# All programs of tests/crash, then the integration suite.
always-crash: venv stock-venv
	CRASH_EVERY="$(EVERY)" $(RUN) $(VENV)/bin/python -m pytest tests/crash $(PYTEST_ARGS)
	for every in $(EVERY); do for when in before after; do \
		$(RUN) $(VENV)/bin/python -m pytest -p tests.crash.plugin --always-crash $$when:$$every \
			tests/integration $(PYTEST_ARGS) || exit 1; \
	done; done

chaos: venv
	$(VENV)/bin/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) --seed $(SEED)

soak: venv
	$(VENV)/bin/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) --seed $(SEED)

sanitize: venv
	for kind in address thread; do \
		CACHE_STRESS_STEPS=10000 $(BUILD_ENV)/bin/python ci/sanitize.py $(VENV)/bin/python $$kind \
			$(PYTEST_ARGS) || exit 1; \
	done

# No environment: it needs Debian's packages alone.
model:
	@command -v spin > /dev/null || $(PYTHON) ci/debian.py spin
	$(PYTHON) -m tests.model.check $(MODEL)

build/lint.stamp: build/python ci/requirements-lint.txt
	$(PYTHON) ci/make_venv.py $(LINT_ENV)
	$(LINT_ENV)/bin/python $(PIP) -r ci/requirements-lint.txt
	@touch $@

lint: build/lint.stamp
	$(LINT_ENV)/bin/ruff check .
	$(LINT_ENV)/bin/mypy python/ray/util/client/session

bench: venv stock-venv
	$(RUN) $(VENV)/bin/python -m pytest benchmarks $(PYTEST_ARGS)
	$(RUN) FORK_PYTHON="$(abspath $(VENV)/bin/python)" \
		$(VENV)/bin/python -m benchmarks.session $(BENCH_ARGS)

demo: venv
	$(VENV)/bin/python -m demo.demo $(if $(ADDRESS),--address $(ADDRESS))

# Any virtual environment with a Ray will do, so one that is there is left as it is.
dev: build/env.stamp
	@test -x $(VENV)/bin/python || $(MAKE) --no-print-directory venv
	$(BUILD_ENV)/bin/python ci/dev.py link $(VENV) > /dev/null
	@echo '$(VENV) runs this tree now; run make dev again for new files, make undev to undo it.'

undev: build/env.stamp
	$(BUILD_ENV)/bin/python ci/dev.py unlink $(VENV)

manifest: build/env.stamp
	$(BUILD_ENV)/bin/python ci/manifest.py --update

clean:
	find build -mindepth 1 -maxdepth 1 -not -name stock -exec rm -rf {} + 2>/dev/null || true
	rm -rf dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks

distclean: clean
	rm -rf build $(VENV) $(STOCK_VENV)
