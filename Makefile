# Everything is in lab.py, which also runs where there is no make.
# Arguments: make lab ARGS="--no-browser --port 8899", make test ARGS=tests/storage, make bench ARGS=storage
PYTHON ?= python3

.PHONY: lab test bench lint setup
lab test bench lint setup:
	$(PYTHON) lab.py $@ $(ARGS)
