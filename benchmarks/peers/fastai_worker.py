"""fastai's side of ../speed.py: the same cases, set up like fastai's learners, without the overhead of a `Learner`.

Run by speed.py with an interpreter that has fastai (see setup). Training is a plain loop with fastai's model, losses, AR
and TAR as in `RNNRegularizer`, and Adam with its layer groups. Prediction from ids does what `get_preds` does with a
sorted `DataLoader`; prediction from text calls `test_dl` and `get_preds`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from speed import ALPHA, BETA, DROPOUT_MULTIPLIER, LR, Data, serve, synchronize, timed, weighed

BATCH_SIZE = 64  # fastai's default, and that of its predictions


def prepare(request: dict[str, Any], data: Data) -> Callable[[], dict[str, Any]]:
    """Return the function that runs one round of a case."""
    import torch

    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    sizes = data.sizes
    prepared = {
        "versions": versions,
        "write-model": lambda: write_model(data),
        "lm-30k": lambda: timed(*lm_training(data, sizes.vocab), warm_up=True),
        "lm-60k": lambda: timed(*lm_training(data, sizes.large_vocab), warm_up=True),
        "fit": lambda: timed(*classifier_training(data), warm_up=True),
        "fit-head": lambda: timed(*classifier_training(data, head_only=True), warm_up=True),
        "predict": lambda: timed(*prediction(data, data.documents(sizes.documents)), warm_up=True),
        "predict-long": lambda: timed(*prediction(data, data.long_documents()), warm_up=True),
        "predict-text": lambda: text_prediction(data),
        "tokenize-cold": lambda: timed(*tokenization(data)),
        "tokenize-warm": lambda: timed(*tokenization(data), warm_up=True),
        "memory-lm": lambda: weighed(lm_training(data, sizes.large_vocab, tiny_step=True)[0]),
        "memory-fit": lambda: weighed(classifier_training(data, tiny_step=True)[0]),
        "cold-start": lambda: first_prediction(data),
    }
    return prepared[request["case"]]()


def versions() -> Callable[[], dict[str, str]]:
    import fastai
    import torch

    return lambda: {"fastai": f"{fastai.__version__} on torch {torch.__version__}"}


def encoder_config(data: Data, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of fastai, dropout rates included, with the sizes of the benchmark."""
    sizes = data.sizes
    return {**defaults, "emb_sz": sizes.emb_dim, "n_hid": sizes.hidden_dim, "n_layers": sizes.n_layers}


def penalties(raw: Any, dropped: Any) -> Any:
    """Return AR plus TAR, as `fastai.callback.rnn.RNNRegularizer` adds them to the loss."""
    change = (raw[:, 1:] - raw[:, :-1]).float().pow(2).mean()
    return ALPHA * dropped.float().pow(2).mean() + BETA * change


def training_steps(
    data: Data, model: Any, split: Any, loss_function: Any, batches: list[tuple[Any, Any]]
) -> Callable[[], None]:
    """Return the steps of one round, as in `Learner`; on a GPU as after `to_fp16`."""
    import torch
    from fastai.optimizer import Adam

    model.to(data.device)
    on_gpu = data.device != "cpu"
    optimizer = Adam(split(model), lr=LR, wd=0.01)
    scaler = torch.amp.GradScaler(data.device, enabled=on_gpu)

    def steps(batches: Any = batches) -> None:
        model.train()
        model.reset()
        for x, y in batches:
            with torch.autocast(data.device, torch.float16, enabled=on_gpu):
                prediction, raw, dropped = model(x.to(data.device))
                loss = loss_function(prediction, y.to(data.device)) + penalties(raw, dropped)
            scaler.scale(loss).backward()
            scaler.step(optimizer) if on_gpu else optimizer.step()
            scaler.update()
            optimizer.zero_grad()
        synchronize()

    return steps


def lm_training(data: Data, vocab: int, tiny_step: bool = False) -> tuple[Callable[[], None], int, int]:
    """Return language-model training steps and their tokens; measurements of memory need `tiny_step` first."""
    import torch
    from fastai.losses import CrossEntropyLossFlat
    from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_lm_config, awd_lstm_lm_split
    from fastai.text.models.core import get_language_model

    config = encoder_config(data, awd_lstm_lm_config)
    model = get_language_model(AWD_LSTM, vocab, config=config, drop_mult=DROPOUT_MULTIPLIER)
    batches = [(torch.from_numpy(x.copy()), torch.from_numpy(y.copy())) for x, y in data.lm_windows(vocab)]
    tokens = sum(x.numel() for x, _ in batches)
    steps = training_steps(data, model, awd_lstm_lm_split, CrossEntropyLossFlat(), batches)
    if tiny_step:
        steps([tuple(map(torch.from_numpy, data.tiny_window()))])
    return steps, tokens, tokens


def classifier(data: Data) -> Any:
    from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_clas_config
    from fastai.text.models.core import get_text_classifier

    return get_text_classifier(
        AWD_LSTM,
        len(data.strings("words")),
        len(data.strings("label_names")),
        seq_len=data.sizes.window,
        config=encoder_config(data, awd_lstm_clas_config),
        drop_mult=DROPOUT_MULTIPLIER,
        max_len=data.sizes.max_length,
    )


def padded(documents: list[np.ndarray], window: int) -> Any:
    """Return one batch of ids, padded as in fastai."""
    import torch
    from fastai.text.data import pad_chunk

    longest = max(map(len, documents))
    tensors = [torch.from_numpy(document.astype(np.int64)) for document in documents]
    return torch.stack([pad_chunk(tensor, seq_len=window, pad_len=longest) for tensor in tensors])


def classifier_training(
    data: Data, head_only: bool = False, tiny_step: bool = False
) -> tuple[Callable[[], None], int, int]:
    """Return classifier training steps and their tokens; `head_only` freezes the encoder like `Learner.freeze`."""
    import torch
    from fastai.losses import BCEWithLogitsLossFlat
    from fastai.text.models.awdlstm import awd_lstm_clas_split

    model = classifier(data)
    if head_only:
        model[0].requires_grad_(False)
    batches = [(padded(documents, data.sizes.window), torch.from_numpy(y)) for documents, y in data.fit_batches()]
    tokens = sum(len(document) for documents, _ in data.fit_batches() for document in documents)
    steps = training_steps(data, model, awd_lstm_clas_split, BCEWithLogitsLossFlat(), batches)
    if tiny_step:  # batch normalization in fastai needs two documents
        steps([(torch.full((2, 2), 9), batches[0][1][:2])])
    return steps, tokens, tokens


def prediction(data: Data, documents: list[np.ndarray]) -> tuple[Callable[[], Any], int, int]:
    """Return prediction from token ids in sorted batches of 64, and the numbers of documents and of tokens."""
    import torch

    model = classifier(data).eval()
    ordered = sorted(documents, key=len, reverse=True)

    def work() -> Any:
        with torch.no_grad():
            starts = range(0, len(ordered), BATCH_SIZE)
            batches = (padded(ordered[start : start + BATCH_SIZE], data.sizes.window) for start in starts)
            return torch.cat([torch.sigmoid(model(batch)[0]) for batch in batches])

    return work, len(documents), sum(map(len, documents))


def write_model(data: Data) -> Callable[[], dict[str, Any]]:
    """Export a learner with random weights, made with the usual API."""
    import pandas as pd
    from fastai.text.all import AWD_LSTM, MultiCategoryBlock, TextDataLoaders, text_classifier_learner
    from fastai.text.models.awdlstm import awd_lstm_clas_config

    sizes, names = data.sizes, data.strings("label_names")
    table = pd.DataFrame({"text": data.strings("texts")[: 2 * BATCH_SIZE], "label": names[0]})
    table["held_out"] = np.arange(len(table)) % 2 == 1
    loaders = TextDataLoaders.from_df(
        table,
        text_col="text",
        label_col="label",
        label_delim=";",
        y_block=MultiCategoryBlock(vocab=names),
        text_vocab=data.strings("words"),
        valid_col="held_out",
        seq_len=sizes.window,
        bs=BATCH_SIZE,
    )
    learner = text_classifier_learner(
        loaders,
        AWD_LSTM,
        pretrained=False,
        config=encoder_config(data, awd_lstm_clas_config),
        drop_mult=DROPOUT_MULTIPLIER,
        seq_len=sizes.window,
        max_len=sizes.max_length,
    )
    learner.export(data.folder / "fastai.pkl")
    return dict


def load(data: Data) -> Any:
    from fastai.learner import load_learner

    return load_learner(data.folder / "fastai.pkl")


def text_prediction(data: Data) -> Callable[[], dict[str, float]]:
    """Return prediction from raw text, with a loaded learner."""
    learner, texts = load(data), data.strings("texts")[: data.sizes.raw_documents]

    def predict(texts: list[str]) -> Any:
        with learner.no_bar(), learner.no_logging():
            return learner.get_preds(dl=learner.dls.test_dl(texts, num_workers=0))  # faster than a worker process

    predict(texts[:8])
    return timed(lambda: predict(texts), len(texts), 0)


def first_prediction(data: Data) -> Callable[[], dict[str, float]]:
    """Load and predict; the parent measures the time from the start of this process."""
    import fastai.text.all  # noqa: F401  needed to unpickle a learner

    learner = load(data)
    with learner.no_bar(), learner.no_logging():
        learner.predict(data.strings("texts")[0])
    return dict


def tokenization(data: Data) -> tuple[Callable[[], Any], float, int]:
    """Return tokenization with rules, spaCy and ids in one process, and the number of megabytes."""
    from fastai.text.core import SpacyTokenizer, TokenizeWithRules
    from fastai.text.data import Numericalize

    texts = data.strings("corpus")
    tokenize, numericalize = TokenizeWithRules(SpacyTokenizer()), Numericalize(data.strings("words"))
    list(tokenize([""]))  # loads the rules of spaCy
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    return lambda: [numericalize(tokens) for tokens in tokenize(texts)], megabytes, 0


if __name__ == "__main__":
    serve(prepare)
