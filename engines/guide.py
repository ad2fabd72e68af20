"""Models and engines in one line each, for the help of the command line, which must not load them."""

#: What to give as --model.
MODELS = {
    "cnn": "the default network: denoises, fast; for looking",
    "rnn": "recurrent: a little more accurate, at a quarter of the rate",
    "cnn-kk": "finds the background, Kramers-Kronig does the rest: for numbers and averages",
    "rnn-kk": "the same, recurrent",
    "cnn-crimson2024": "for the published protocol crimson2024 (docs/accuracy.md)",
    "rnn-crimson2024": "the same, recurrent",
    "kk": "Kramers-Kronig retrieval, no network; best with --reference",
    "mem": "maximum entropy, for files only (cars-rt process)",
}

FOR_FILES = ("mem",)  # too slow for a stream

#: What to give as --engine; `cars-rt doctor` says which of them work on a computer.
ENGINES = {
    "auto": "the fastest that works here and agrees with onnxruntime",
    "tensorrt": "NVIDIA GPUs",
    "torch": "NVIDIA GPUs; CPUs if nothing else works",
    "onnxruntime-cuda": "NVIDIA GPUs",
    "openvino": "Intel and other CPUs",
    "openvino-bf16": "CPUs with AMX, in bfloat16",
    "openvino-gpu": "Intel graphics",
    "onnxruntime": "every CPU; the reference",
    "passthrough": "no retrieval: counts come out as they came in",
}


def listing() -> str:
    """Both as lists in Markdown, but for what is for files only."""
    lines = ["Models (--model), or the path of an .onnx file:", ""]
    lines += [f"- {name}: {about}" for name, about in MODELS.items() if name not in FOR_FILES]
    lines += ["", "Engines (--engine); cars-rt doctor says which work here:", ""]
    lines += [f"- {name}: {about}" for name, about in ENGINES.items()]
    return "\n".join(lines)
