# Everything is in lab.py, which also runs where there is no make.
# Arguments: make lab ARGS="--no-browser --port 8899", make test ARGS=tests/storage, make bench ARGS=storage,
# make fuzz ARGS="--inputs 100000 tlv", make soak ARGS="--devices 50 --minutes 1"
PYTHON ?= python3

.PHONY: lab test bench soak fuzz lint setup
lab test bench soak fuzz lint setup:
	$(PYTHON) lab.py $@ $(ARGS)
