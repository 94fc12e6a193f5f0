"""The command `convert`: any checkpoint to a quantised one that proves itself.

In: its arguments. Out: a folder, the table of what was measured on standard output, and an exit status. Calls the
public API; knows nothing of tensors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlx_kstt

from ..convert import convert
from ..quantization import MODES, PRESETS, QuantFormat, Recipe, default_group_size, uniform
from ..samples import Sample, find_sample
from ..upload import check_upload, upload
from .delivery import complain, send
from .options import add_checkpoint_options, named


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Make it the parser of `convert`."""
    parser.set_defaults(run=run, usage_error=parser.error)
    add = parser.add_argument
    add(
        "--hf-path",
        "--model",
        type=named,
        default=mlx_kstt.DEFAULT_MODEL,
        metavar="MODEL",
        help='hub repository, local folder or "tiny" (default: %(default)s)',
    )
    add(
        "--mlx-path", type=Path, default=Path("mlx_model"), metavar="DIR", help="folder to write (default: %(default)s)"
    )
    add("--force", action="store_true", help="replace a checkpoint that stands there")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="of what is not quantised (default: as it is)")
    add(
        "--pause-heads-from",
        type=named,
        metavar="MODEL",
        help="take the pause heads from another layout of the same model",
    )
    add("--upload-repo", metavar="OWNER/NAME", help="publish the result on the hub")
    add_checkpoint_options(parser.add_argument_group("source"))
    _add_quantisation(parser.add_argument_group("quantisation"))
    _add_proof(parser.add_argument_group("proof"))


def _add_quantisation(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-q", "--quantize", action="store_true", help="quantise: 4 bits in groups of 64 unless said otherwise")
    add("--quant-predicate", choices=tuple(PRESETS), help="a recipe by name")
    add("--q-bits", type=int, choices=(2, 3, 4, 5, 6, 8), help="bits per weight")
    add("--q-group-size", type=int, choices=(16, 32, 64, 128), help="weights that share a scale")
    add("--q-mode", choices=MODES, help="kind of format (default: affine)")
    add("--q-embeddings", action="store_true", help="quantise the embeddings too: saves memory and no time")
    add("--q-search", type=_share, metavar="TARGET", help="find the smallest recipe with this share of equal tokens")
    add("--dequantize", action="store_true", help="the source is quantised: read it back into full weights")


def _add_proof(group: argparse._ArgumentGroup) -> None:
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--prove",
        nargs="+",
        type=Path,
        metavar="AUDIO",
        help="with these recordings (and what is said in talk.wav in talk.txt beside it)",
    )
    either.add_argument("--no-prove", action="store_true", help="do not compare source and result")


def run(args: argparse.Namespace) -> int:
    """Convert, and print what was measured."""
    _check_usage(args)
    if args.upload_repo:
        check_upload(args.upload_repo)  # before minutes of work
    done = convert(
        args.hf_path,
        args.mlx_path,
        quantize=_recipe(args),
        search_target=args.q_search,
        dtype=args.dtype,
        dequantize=args.dequantize,
        pause_heads_from=args.pause_heads_from,
        samples=_samples(args),
        force=args.force,
        name=args.upload_repo,
        revision=args.revision,
        offline=args.offline,
        delay=args.delay,
        prefix=args.prefix,
        announce=complain,
    )
    complain(f"{args.mlx_path} is ready")
    if measured := done.to_markdown():
        send(f"{measured}\n")
    if args.upload_repo:
        complain(f"{args.mlx_path} is at {upload(args.mlx_path, args.upload_repo, complain)}")
    return 0


def _samples(args: argparse.Namespace) -> tuple[Sample, ...] | None:
    if args.no_prove:
        return ()
    return tuple(map(find_sample, args.prove)) if args.prove else None


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1, such as 0.99")
    return value


def _check_usage(args: argparse.Namespace) -> None:
    details = {"--q-bits": args.q_bits, "--q-group-size": args.q_group_size, "--q-mode": args.q_mode}
    given = [flag for flag, value in details.items() if value is not None]
    named = args.quant_predicate or args.q_search
    if given and named:
        args.usage_error(f"{given[0]} does not go with --quant-predicate or --q-search, which choose the formats")
    if args.quant_predicate and args.q_search:
        args.usage_error("--quant-predicate and --q-search exclude each other")
    if (given or args.q_embeddings) and not args.quantize:
        args.usage_error(f"{(given or ['--q-embeddings'])[0]} needs -q")
    if args.q_embeddings and named:
        args.usage_error("--q-embeddings goes with -q alone")


def _recipe(args: argparse.Namespace) -> str | Recipe | None:
    if args.quant_predicate:
        return args.quant_predicate
    if not args.quantize:
        return None
    mode = args.q_mode or "affine"
    bits = args.q_bits or (8 if mode == "mxfp8" else 4)
    return uniform(QuantFormat(bits, args.q_group_size or default_group_size(mode), mode), embeddings=args.q_embeddings)
