"""Write the tuned model into one folder that transformers, vLLM, llama.cpp and Ollama take, and prove it."""

from __future__ import annotations

import argparse

from finesmith.cli import _parser


class Export:
    """`finesmith export RUN DIR [--dtype float32]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run, the folder, the precision."""
        parser.add_argument("run", help="the folder of a finished run")
        parser.add_argument("folder", help="the folder to make")
        parser.add_argument(
            "--dtype", default="auto", help="of the weights: auto (as the base's), float32, bfloat16 or float16"
        )
        parser.add_argument(
            "--rows", type=int, default=16, metavar="N", help="test rows that both models answer (default 16)"
        )
        parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
        _parser.trust_option(parser)
        parser.add_argument("--json", action="store_true", help="what was written and compared as one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """Writes, compares, and says what came of it."""
        import finesmith
        from finesmith.cli._show import Terminal, print_json
        from finesmith.evidence import plain
        from finesmith.report.words import size

        with Terminal(quiet=options.json) as watcher:
            done = finesmith.export(
                options.run,
                options.folder,
                dtype=options.dtype,
                rows=options.rows,
                device=options.device,
                trust_remote_code=options.trust_remote_code,
                watcher=watcher,
            )
        if options.json:
            print_json({**plain.values_of(done), "path": options.folder})
            return
        held = f" into the base as it was held in {done.dequantised}" if done.dequantised != "none" else ""
        merged = f", adapters merged{held}" if done.merged else ""
        print(f"{options.folder}: {done.dtype}, {size(done.bytes)}{merged}.")
        proof = done.proof
        print(
            f"Loaded in plain transformers and compared with the trained model on {proof.rows} {proof.origin}: logits "
            f"differ by {proof.difference:.2g} of the largest at most (merging alone {proof.merging:.2g})"
            + (f"; {proof.same} of {proof.answers} answers are the same." if proof.answers else ".")
        )
        if proof.same < proof.answers:
            print("The others part from it where it was undecided, by no more than the rounding.")


PLUGIN = Export()
