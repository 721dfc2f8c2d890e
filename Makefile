# make demo   pretrains, finetunes, scores and ships a small VideoMAE on videos drawn on the spot
# make test   the tests; make test-slow those that take minutes each
#
# Both create .venv on first use. PYTHON names the interpreter it is made with (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
DEMO ?= demo

.PHONY: demo test test-slow clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt -e '.[demo,test]'
	touch $@

test: $(VENV)/installed
	$(PY) -m pytest -q

test-slow: $(VENV)/installed
	$(PY) -m pytest -q -m slow

clean:
	rm -rf $(DEMO) output
