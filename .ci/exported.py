"""Train a tiny classifier and export it to the folder on the command line, for `make runtime`."""

import sys

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages

data = load_support_messages("train")
tiny = ULMFiTLanguageModel(emb_dim=16, hidden_dim=24, n_layers=2, max_epochs=1)
clf = ULMFiTMultiLabelClassifier(tiny, max_epochs=1, random_state=0).fit(data.texts[:60], data.labels[:60])
print(clf.export_onnx(sys.argv[1]))
