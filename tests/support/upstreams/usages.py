"""Usage objects as the references of OpenAI's API and of Anthropic's publish them."""

CHAT = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CHAT_CACHED = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920},
    "completion_tokens_details": {
        "reasoning_tokens": 256,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CHAT_FUNCTIONS = {
    "prompt_tokens": 82,
    "completion_tokens": 17,
    "total_tokens": 99,
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CHAT_AUDIO = {
    "prompt_tokens": 120,
    "completion_tokens": 90,
    "total_tokens": 210,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 100, "text_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 70, "text_tokens": 20},
}
COMPLETION = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
RESPONSE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 123,
}
RESPONSE_REASONING = {
    "input_tokens": 328,
    "input_tokens_details": {"cached_tokens": 128},
    "output_tokens": 1356,
    "output_tokens_details": {"reasoning_tokens": 1024},
    "total_tokens": 1684,
}
EMBEDDING = {"prompt_tokens": 8, "total_tokens": 8}
IMAGE = {
    "total_tokens": 100,
    "input_tokens": 50,
    "output_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
IMAGE_DETAILED = {**IMAGE, "output_tokens_details": {"text_tokens": 5, "image_tokens": 45}}
TRANSCRIPTION = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
    "output_tokens": 45,
    "total_tokens": 59,
}
WHISPER = {"type": "duration", "seconds": 9}
SPEECH = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
REALTIME = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
MESSAGE_START = {"input_tokens": 25, "output_tokens": 1}
MESSAGE_DELTA = {"output_tokens": 15}
MESSAGE_CACHED = {
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 188086,
    "input_tokens": 21,
    "output_tokens": 393,
}
MESSAGE_WRITTEN = {**MESSAGE_CACHED, "cache_creation_input_tokens": 188086, "cache_read_input_tokens": 0}

CORPUS = {name: usage for name, usage in [*globals().items()] if name.isupper()}
"""All of them, by their names."""
