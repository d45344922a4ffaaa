"""Peak memory of one training step, and of one prediction, by document length.

    python benchmarks/memory.py [--lengths 2000 100000] [--max-length 0] [--small]

Each measurement runs in a process of its own and reports the maximum resident memory of that process, in all and beyond
the model with its optimizer state. The default is the full encoder, 400/1152/3 with 30,000 words, with every token
pooled, which is the hardest case.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np


def measure(what: str, length: int, max_length: int | None, sizes: dict[str, int], precision: str) -> dict[str, float]:
    import torch

    from sk_ulmfit.nn.modules import AWDLSTM, ConcatPoolingHead
    from sk_ulmfit.nn.optimizer import RowAdamW
    from sk_ulmfit.nn.pooling import TextClassifier
    from sk_ulmfit.text.vocabulary import TokenIds
    from sk_ulmfit.training.batching import DocumentDataset
    from sk_ulmfit.training.net import MultiLabelNet

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    torch.manual_seed(0)
    vocab = 30_000
    encoder = AWDLSTM(vocab, **sizes, input_p=0.2, hidden_p=0.15, weight_p=0.25, embed_p=0.025)
    module = TextClassifier(encoder, ConcatPoolingHead(3 * sizes["emb_dim"], 10, 0.2), 70, max_length)
    net = MultiLabelNet(
        module, max_tokens=8960, alpha=2.0, beta=1.0, lr_decay=2.6, seed=0, pad_id=1, batch_size=32, max_epochs=1,
        optimizer=RowAdamW, optimizer__fused=True, train_split=None, callbacks__print_log=None, verbose=0, precision=precision,
    ).initialize()  # fmt: skip

    def document(n: int) -> DocumentDataset:
        ids = np.random.default_rng(0).integers(8, vocab, n).astype(np.int32)
        return DocumentDataset(TokenIds(ids, np.array([0, n])), np.ones((1, 10), np.float32))

    def run(dataset: DocumentDataset) -> None:
        if what == "train":
            net.train_step(next(iter(net.get_iterator(dataset, training=True))))
        else:
            net.logits(dataset.chosen(), precision)

    run(document(70))  # creates optimizer state, thread pools and kernels
    before, start = peak(), time.perf_counter()
    run(document(length))
    return {"peak_mb": peak(), "above_mb": peak() - before, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2_000, 100_000], metavar="N")
    parser.add_argument("--max-length", type=int, default=0, help="number of tokens pooled; 0 pools all (default)")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--small", action="store_true", help="200/300/2 instead of 400/1152/3")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {"emb_dim": 400, "hidden_dim": 1152, "n_layers": 3}
    if options.small:
        sizes = {"emb_dim": 200, "hidden_dim": 300, "n_layers": 2}
    if options.one:
        what, length = options.one
        print(json.dumps(measure(what, int(length), options.max_length or None, sizes, options.precision)))
        return
    print(
        "| what | tokens | peak MB | above the model MB | seconds | peak, ratio to the first |\n|---|---|---|---|---|---|"
    )
    for what in ("train", "predict"):
        first = None
        for length in options.lengths:
            command = [sys.executable, __file__, "--max-length", str(options.max_length), "--one", what, str(length)]
            command += ["--precision", options.precision]
            command += ["--small"] if options.small else []
            figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            first = first or figures["peak_mb"]
            print(
                f"| {what} | {length:,} | {figures['peak_mb']:.0f} | {figures['above_mb']:.0f} | {figures['seconds']:.1f} "
                f"| {figures['peak_mb'] / first:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
