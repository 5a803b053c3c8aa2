"""Creates a language model of a megabyte for llama.cpp: tiny_model.py FILE.gguf, in an environment with gguf and numpy.

It has two layers of random weights over an alphabet of bytes. The first dimensions contain a table of which token
follows which, so that the model says its one sentence, or calls the calculator, and stops. The chat template chooses
between them: it ends the prompt with a marker. Everything else (which bytes fill a JSON Schema's grammar) is random.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, PLANTED_DIMENSIONS = 128, 2, 4, 32
SENTENCE = ("Tiny", " engine", " here:", " random", " weights", " speaking.")
CALL = (
    "<tool_call>",
    "\n{",
    '"name": "calculator__calculate", "arguments": {"expression": "1234 * 5678"}}',
    "</tool_call>",
)
THOUGHT = ("<think>", "Let me think.", "</think>")
ENDLESS = (" round", " and-round", " it-goes,")
MARKERS = ("<|say|>", "<|act|>", "<|loop|>", "<|muse|>")
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


def byte_alphabet() -> list[str]:
    """Return the 256 bytes as byte-level tokenizers write them."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def main() -> None:
    random = np.random.default_rng(7)
    control = (START, END, PAD, *MARKERS)
    user_tokens = tuple(dict.fromkeys((*CALL, *THOUGHT, *SENTENCE, *ENDLESS)))
    letters = byte_alphabet()
    tokens = [*letters, "th", *control, *user_tokens]  # one merge, because llama.cpp rejects an empty list
    token_ids = {token: index for index, token in enumerate(tokens)}
    token_types = (
        [gguf.TokenType.NORMAL] * 257
        + [gguf.TokenType.CONTROL] * len(control)
        + [gguf.TokenType.USER_DEFINED] * len(user_tokens)
    )

    size = len(tokens)
    embedding = random.standard_normal((size, WIDTH)).astype(np.float32)
    embedding[:, :PLANTED_DIMENSIONS] = 0
    output = (random.standard_normal((size, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32)
    output[:, :PLANTED_DIMENSIONS] = 0
    bias = np.zeros(size, np.float32)
    bias[257:] = -40  # never chosen at random
    for index, letter in enumerate(letters):
        bias[index] = 0 if 33 <= ord(letter) < 127 else -40
    for closing in '"}]':
        bias[token_ids[closing]] = 4  # so that strings and objects end
    dimensions: dict[str, int] = {}

    def add_sequence(token: str, *rest: str, strength: float = 80.0) -> None:
        """Make each token follow the one before it."""
        for before, after in zip((token, *rest), rest, strict=False):
            if before not in dimensions:
                dimension = dimensions[before] = len(dimensions)
                embedding[token_ids[before]] = 0
                embedding[token_ids[before], dimension] = 1
            output[token_ids[after], dimensions[before]] = strength / np.sqrt(WIDTH)

    add_sequence("<|say|>", *SENTENCE, END)
    add_sequence("<|act|>", *CALL, END)
    add_sequence("<|loop|>", *ENDLESS, ENDLESS[0])
    add_sequence("<|muse|>", *THOUGHT, SENTENCE[0])
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)

    writer = gguf.GGUFWriter(sys.argv[1], "qwen2")
    writer.add_name("tiny-random")
    writer.add_context_length(65536)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kind) for kind in token_types])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(token_ids[END])
    writer.add_pad_token_id(token_ids[PAD])
    writer.add_add_bos_token(False)
    writer.add_chat_template(Path(__file__).with_name("template.jinja").read_text(encoding="utf-8"))
    writer.add_tensor("token_embd.weight", (embedding * np.sqrt(WIDTH)).astype(np.float32))
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output.bias", bias)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(WIDTH, np.float32))
        for matrix in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            writer.add_tensor(
                f"{block}{matrix}.weight", (random.standard_normal((WIDTH, WIDTH)) * 0.01).astype(np.float32)
            )
        for vector in ("attn_q", "attn_k", "attn_v"):
            writer.add_tensor(f"{block}{vector}.bias", (random.standard_normal(WIDTH) * 0.01).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
