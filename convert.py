"""Quantise a Kyutai STT checkpoint: `python convert.py --help`, the same as `python -m mlx_kstt convert`."""

import sys

from mlx_kstt.cli import main

sys.exit(main(["convert", *sys.argv[1:]]))
