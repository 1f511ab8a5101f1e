# Everything is in lab.py, which also runs where there is no make.
PYTHON ?= python3

.PHONY: lab test bench lint setup
lab test bench lint setup:
	$(PYTHON) lab.py $@
